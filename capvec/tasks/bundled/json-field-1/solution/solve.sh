#!/bin/bash
set -eu
cd /app
echo 'Ada' > /app/stock.txt
