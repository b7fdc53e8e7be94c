#!/bin/bash
set -eu
cd /app
uniq /app/record.txt > /app/copy.txt
