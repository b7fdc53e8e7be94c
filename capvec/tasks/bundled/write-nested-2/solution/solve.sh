#!/bin/bash
set -eu
cd /app
echo 'lunch is in the garden' > /app/media/archive.txt
