#!/bin/bash
set -eu
cd /app
grep 'cherry' /app/catalog.csv > /app/report.txt
