#!/bin/bash
set -eu
cd /app
cut -d, -f4 /app/orders.csv > /app/catalog.txt
