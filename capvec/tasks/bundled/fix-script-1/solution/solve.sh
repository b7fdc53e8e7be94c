#!/bin/bash
set -eu
cd /app
sed -i 's/bundle.tx/bundle.txt/' /app/output.sh
