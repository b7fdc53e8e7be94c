#!/bin/bash
set -eu
cd /app
mkdir -p /app/work
cp /app/record.txt /app/work/
