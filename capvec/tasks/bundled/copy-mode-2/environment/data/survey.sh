#!/bin/sh
echo spruce
