#!/bin/bash
set -eu
cd /app
echo 'Leon' > /app/index.txt
