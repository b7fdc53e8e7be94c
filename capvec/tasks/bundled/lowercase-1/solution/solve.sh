#!/bin/bash
set -eu
cd /app
tr 'A-Z' 'a-z' < /app/words.txt > /app/stock.txt
