#!/bin/bash
set -eu
cd /app
mkdir -p /app/files/archive
