#!/bin/bash
set -eu
cd /app
head -n 3 /app/items.txt > /app/letters.txt
