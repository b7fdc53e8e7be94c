"""The commands of `capvec`, one module each: `add` describes it to argparse, `run` does it and gives the exit code.

A module imports what its command needs when the command runs: `capvec doctor` must work where half of it is missing.
"""
