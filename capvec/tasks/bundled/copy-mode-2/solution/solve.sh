#!/bin/bash
set -eu
cd /app
cp /app/survey.sh /app/data.sh
chmod 640 /app/data.sh
