#!/bin/bash
set -eu
cd /app
tail -n +2 /app/survey.csv > /app/ledger.txt
