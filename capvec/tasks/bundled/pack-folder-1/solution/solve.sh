#!/bin/bash
set -eu
cd /app
tar -czf /app/roster.tar.gz -C /app backup
