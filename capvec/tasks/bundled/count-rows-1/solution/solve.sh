#!/bin/bash
set -eu
cd /app
grep -c 'olive' /app/survey.csv > /app/sample.txt
