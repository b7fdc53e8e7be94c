#!/bin/bash
set -eu
cd /app
tar -xzf /app/agenda.tar.gz -C /app
