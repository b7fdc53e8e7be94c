#!/bin/bash
set -eu
cd /app
rm /app/docs/*.log
