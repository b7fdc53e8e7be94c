#!/bin/bash
set -eu
cd /app
cd /app/project && for f in *.log; do mv "$f" "${f%.log}.dat"; done
