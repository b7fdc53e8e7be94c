#!/bin/bash
set -eu
cd /app
ls /app/work | wc -l > /app/letters.txt
