#!/bin/bash
set -eu
cd /app
mkdir -p /app/files
cp /app/data.txt /app/files/
