#!/bin/bash
set -eu
cd /app
tar -tzf /app/memo.tar.gz > /app/stock.txt
