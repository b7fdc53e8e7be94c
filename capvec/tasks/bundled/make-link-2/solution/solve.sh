#!/bin/bash
set -eu
cd /app
ln -s /app/store/words.conf /app/current.conf
