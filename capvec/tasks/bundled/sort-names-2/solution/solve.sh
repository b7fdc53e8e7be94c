#!/bin/bash
set -eu
cd /app
sort /app/bundle.lst > /app/stock.txt
