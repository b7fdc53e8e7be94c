#!/bin/bash
set -eu
cd /app
mkdir -p /app/reports
mv /app/letters.txt /app/reports/
