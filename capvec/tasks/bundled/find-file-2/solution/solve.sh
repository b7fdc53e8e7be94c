#!/bin/bash
set -eu
cd /app
find /app -name letters.txt > /app/table.txt
