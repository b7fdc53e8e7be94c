#!/bin/bash
set -eu
cd /app
grep -c 'WARN' /app/memo.log > /app/list.txt
