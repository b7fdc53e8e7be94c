#!/bin/bash
set -eu
cd /app
cut -d, -f2 /app/agenda.csv > /app/agenda.txt
