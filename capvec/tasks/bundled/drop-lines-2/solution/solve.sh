#!/bin/bash
set -eu
cd /app
grep -v 'heron' /app/data.txt > /app/list.txt
