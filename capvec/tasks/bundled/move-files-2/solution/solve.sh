#!/bin/bash
set -eu
cd /app
mkdir -p /app/inbox
mv /app/*.log /app/inbox/
