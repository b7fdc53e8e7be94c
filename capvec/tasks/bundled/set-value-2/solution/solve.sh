#!/bin/bash
set -eu
cd /app
sed -i 's/retries=5012/retries=5587/' /app/letters.ini
