#!/bin/bash
set -eu
cd /app
mkdir -p /app/logs
mv /app/*.txt /app/logs/
