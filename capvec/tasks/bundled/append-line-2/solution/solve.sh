#!/bin/bash
set -eu
cd /app
echo 'bring your own laptop' >> /app/list.txt
