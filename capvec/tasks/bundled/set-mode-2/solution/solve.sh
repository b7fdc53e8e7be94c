#!/bin/bash
set -eu
cd /app
chmod 640 /app/agenda.sh
