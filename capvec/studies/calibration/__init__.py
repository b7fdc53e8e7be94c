"""Calibration: real trials of effects that are known, to show that capvec finds what is there and nothing else."""
