#!/bin/bash
head -n 1 /app/bundle.tx
