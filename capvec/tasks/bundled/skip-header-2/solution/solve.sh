#!/bin/bash
set -eu
cd /app
tail -n +2 /app/summary.txt > /app/output.txt
