#!/bin/bash
set -eu
cd /app
awk -F, 'NR>1{s+=$4} END{print s}' /app/words.csv > /app/bundle.txt
