#!/bin/bash
set -eu
cd /app
sed -i '/ibex/d' /app/memo.txt
