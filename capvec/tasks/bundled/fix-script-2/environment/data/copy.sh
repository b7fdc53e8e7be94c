#!/bin/bash
ehco Lyon
