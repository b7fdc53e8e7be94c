#!/bin/bash
set -eu
cd /app
grep -c 'INFO' /app/agenda.log > /app/agenda.txt
