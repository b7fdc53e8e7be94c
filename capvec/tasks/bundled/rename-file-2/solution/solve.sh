#!/bin/bash
set -eu
cd /app
mv /app/draft.txt /app/survey.txt
