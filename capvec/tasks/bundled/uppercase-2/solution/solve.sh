#!/bin/bash
set -eu
cd /app
tr 'a-z' 'A-Z' < /app/roster.txt > /app/archive.txt
