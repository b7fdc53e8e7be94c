#!/bin/bash
set -eu
cd /app
sort /app/events.lst > /app/agenda.txt
