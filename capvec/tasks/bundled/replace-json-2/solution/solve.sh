#!/bin/bash
set -eu
cd /app
sed -i 's/gamma/omega/g' /app/catalog.json
