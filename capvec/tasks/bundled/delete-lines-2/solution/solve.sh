#!/bin/bash
set -eu
cd /app
sed -i '/violet/d' /app/events.txt
