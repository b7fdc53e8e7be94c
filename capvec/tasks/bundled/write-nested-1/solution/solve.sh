#!/bin/bash
set -eu
cd /app
echo 'bring your own laptop' > /app/inbox/catalog.txt
