#!/bin/bash
set -eu
cd /app
tar -czf /app/agenda.tar.gz -C /app project
