#!/bin/bash
set -eu
cd /app
sed -i 's/kappa/alpha/g' /app/bundle.md
