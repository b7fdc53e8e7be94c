#!/bin/bash
set -eu
cd /app
grep 'ERROR' /app/inbox/report.log > /app/summary.txt
