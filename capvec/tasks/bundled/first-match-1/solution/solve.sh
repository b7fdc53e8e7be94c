#!/bin/bash
set -eu
cd /app
grep 'omega' /app/items.log | head -n 1 > /app/draft.txt
