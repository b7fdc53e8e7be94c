#!/bin/bash
set -eu
cd /app
mkdir -p /app/reports
mv /app/words.md /app/reports/
