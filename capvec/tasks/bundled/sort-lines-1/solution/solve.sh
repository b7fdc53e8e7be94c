#!/bin/bash
set -eu
cd /app
sort /app/catalog.txt > /app/output.txt
