#!/bin/bash
set -eu
cd /app
grep -v 'Boris' /app/report.txt > /app/ledger.txt
