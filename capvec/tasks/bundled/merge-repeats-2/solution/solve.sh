#!/bin/bash
set -eu
cd /app
uniq /app/orders.txt > /app/report.txt
