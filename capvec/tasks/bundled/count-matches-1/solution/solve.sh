#!/bin/bash
set -eu
cd /app
grep -c 'pine' /app/draft.txt > /app/plan.txt
