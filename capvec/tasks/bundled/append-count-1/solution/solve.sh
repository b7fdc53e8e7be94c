#!/bin/bash
set -eu
cd /app
wc -l < /app/output.txt >> /app/catalog.txt
