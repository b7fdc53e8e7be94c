#!/bin/bash
set -eu
cd /app
sort -u /app/bundle.txt > /app/summary.txt
