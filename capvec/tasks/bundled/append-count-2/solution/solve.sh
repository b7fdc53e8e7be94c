#!/bin/bash
set -eu
cd /app
wc -l < /app/list.txt >> /app/table.txt
