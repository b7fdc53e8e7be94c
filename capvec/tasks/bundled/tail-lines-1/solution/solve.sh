#!/bin/bash
set -eu
cd /app
tail -n 2 /app/roster.txt > /app/archive.txt
