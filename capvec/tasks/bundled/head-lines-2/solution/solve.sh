#!/bin/bash
set -eu
cd /app
head -n 3 /app/words.txt > /app/plan.txt
