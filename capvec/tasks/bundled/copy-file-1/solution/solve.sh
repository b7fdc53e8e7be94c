#!/bin/bash
set -eu
cd /app
cp /app/bundle.txt /app/bundle.bak
