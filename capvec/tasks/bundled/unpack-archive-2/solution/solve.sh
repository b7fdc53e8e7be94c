#!/bin/bash
set -eu
cd /app
tar -xzf /app/data.tar.gz -C /app
