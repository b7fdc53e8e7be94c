#!/bin/bash
set -eu
cd /app
wc -l < /app/project/memo.txt > /app/notes.txt
