#!/bin/bash
set -eu
cd /app
cp /app/archive/memo.txt /app/memo.bak
