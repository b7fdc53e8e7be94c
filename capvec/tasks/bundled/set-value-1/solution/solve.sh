#!/bin/bash
set -eu
cd /app
sed -i 's/timeout=7022/timeout=5574/' /app/table.conf
