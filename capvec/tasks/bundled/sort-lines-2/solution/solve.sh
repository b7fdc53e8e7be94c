#!/bin/bash
set -eu
cd /app
sort -r /app/words.txt > /app/items.txt
