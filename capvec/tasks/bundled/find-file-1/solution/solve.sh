#!/bin/bash
set -eu
cd /app
cp /app/assets/drafts/bundle.txt /app/stock.txt
