#!/bin/bash
set -eu
cd /app
cp /app/plan.txt /app/survey.txt
