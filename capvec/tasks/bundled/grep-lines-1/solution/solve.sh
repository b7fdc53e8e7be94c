#!/bin/bash
set -eu
cd /app
grep 'ERROR' /app/output/summary.log > /app/sample.txt
