#!/bin/sh
echo Basel
