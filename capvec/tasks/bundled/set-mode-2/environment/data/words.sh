#!/bin/sh
echo quince
