#!/bin/bash
set -eu
cd /app
echo 'the review is done' >> /app/sample.txt
