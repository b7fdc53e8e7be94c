#!/bin/bash
set -eu
cd /app
chmod 600 /app/report.sh
