#!/bin/bash
set -eu
cd /app
grep 'green' /app/summary.csv > /app/draft.txt
