#!/bin/bash
set -eu
cd /app
cut -d' ' -f1 /app/table.log | sort | uniq -c | sort -rn | head -n 1 | awk '{print $2}' > /app/data.txt
