#!/bin/bash
set -eu
cd /app
sed -i 's/ehco/echo/' /app/copy.sh
