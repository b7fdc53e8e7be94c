#!/bin/bash
set -eu
cd /app
rm /app/media/project/*.bak
