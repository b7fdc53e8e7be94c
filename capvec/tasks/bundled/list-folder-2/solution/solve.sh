#!/bin/bash
set -eu
cd /app
ls /app/backup > /app/list.txt
