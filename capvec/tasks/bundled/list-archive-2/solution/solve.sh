#!/bin/bash
set -eu
cd /app
tar -tzf /app/archive.tar.gz > /app/roster.txt
