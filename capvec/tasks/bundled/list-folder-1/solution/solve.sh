#!/bin/bash
set -eu
cd /app
ls /app/project > /app/journal.txt
