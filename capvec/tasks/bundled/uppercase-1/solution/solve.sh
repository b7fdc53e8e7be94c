#!/bin/bash
set -eu
cd /app
tr 'a-z' 'A-Z' < /app/copy.txt > /app/journal.txt
