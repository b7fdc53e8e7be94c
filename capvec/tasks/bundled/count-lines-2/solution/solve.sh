#!/bin/bash
set -eu
cd /app
wc -l < /app/reports/table.txt > /app/data.txt
