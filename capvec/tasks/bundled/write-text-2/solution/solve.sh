#!/bin/bash
set -eu
cd /app
echo 'ask for the manager' > /app/table.txt
