#!/bin/bash
set -eu
cd /app
awk -F, 'NR>1{s+=$3} END{print s}' /app/summary.csv > /app/budget.txt
