"""The commands of `capvec`, one module each: `run` does it and returns the exit code.

Options and summaries come from `capvec.plan.option_table`. A module imports what its command needs when the command
runs: `capvec doctor` must work where half of it is missing.
"""
