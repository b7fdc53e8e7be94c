#!/bin/bash
set -eu
cd /app
grep -c 'Basel' /app/items.csv > /app/items.txt
