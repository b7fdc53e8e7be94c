"""Prepare a machine for sweeps, and report what it lacks."""
