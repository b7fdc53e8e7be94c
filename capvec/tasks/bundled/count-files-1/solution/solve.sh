#!/bin/bash
set -eu
cd /app
ls /app/data | wc -l > /app/notes.txt
