#!/bin/bash
set -eu
cd /app
grep -c 'Hugo' /app/letters.txt > /app/plan.txt
