#!/bin/bash
set -eu
cd /app
grep -v 'crimson' /app/notes.csv > /app/output.txt
