#!/bin/bash
set -eu
cd /app
grep 'alpha' /app/agenda.log | head -n 1 > /app/archive.txt
