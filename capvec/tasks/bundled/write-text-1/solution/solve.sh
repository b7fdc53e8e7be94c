#!/bin/bash
set -eu
cd /app
echo 'call the office first' > /app/sample.txt
