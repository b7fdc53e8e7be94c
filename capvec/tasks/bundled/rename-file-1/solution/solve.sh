#!/bin/bash
set -eu
cd /app
mv /app/report.txt /app/data.txt
