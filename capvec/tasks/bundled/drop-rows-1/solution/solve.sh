#!/bin/bash
set -eu
cd /app
grep -v 'indigo' /app/data.csv > /app/survey.txt
