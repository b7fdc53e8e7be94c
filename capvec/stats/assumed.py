"""What is assumed where nothing was measured or asked for. A module without SciPy, so that `--help` can show it."""

EQUIVALENCE_MARGIN = 0.15
"""Differences in pass rate beyond it would matter: an interval must exclude them before absence is
claimed. `--effect` names another."""
UNKNOWN_RATE = 0.5
"""Baseline's pass rate. The variance of a trial is largest there, so that a plan asks for too much rather than too
little."""
UNKNOWN_SPREAD = 1.5
"""Logit SD between tasks where the data cannot tell (one attempt a task): rates between about 0.05 and 0.95."""
