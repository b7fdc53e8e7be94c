#!/bin/bash
set -eu
cd /app
cp /app/journal.txt /app/stock.txt
