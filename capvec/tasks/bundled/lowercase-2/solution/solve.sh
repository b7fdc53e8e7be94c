#!/bin/bash
set -eu
cd /app
tr 'A-Z' 'a-z' < /app/budget.txt > /app/notes.txt
