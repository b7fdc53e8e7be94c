#!/bin/bash
set -eu
cd /app
rm /app/store/assets/*.bak
