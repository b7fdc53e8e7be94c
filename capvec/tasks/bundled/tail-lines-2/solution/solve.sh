#!/bin/bash
set -eu
cd /app
tail -n 4 /app/report.txt > /app/budget.txt
