#!/bin/bash
set -eu
cd /app
echo 'mango' > /app/plan.txt
