#!/bin/bash
set -eu
cd /app
cd /app/output && for f in *.log; do mv "$f" "${f%.log}.md"; done
