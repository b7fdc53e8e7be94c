#!/bin/bash
set -eu
cd /app
ln -s /app/logs/survey.conf /app/current.conf
