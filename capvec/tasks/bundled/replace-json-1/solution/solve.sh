#!/bin/bash
set -eu
cd /app
sed -i 's/kappa/zeta/g' /app/plan.json
