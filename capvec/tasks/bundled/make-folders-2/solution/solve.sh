#!/bin/bash
set -eu
cd /app
mkdir -p /app/docs/archive
