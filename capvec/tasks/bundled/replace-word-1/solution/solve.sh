#!/bin/bash
set -eu
cd /app
sed -i 's/omega/delta/g' /app/letters.ini
