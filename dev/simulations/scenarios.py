"""The sweeps that `fixed` and `sequential` draw: designs, and two arms of which one deviates."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy import special

from capvec.stats.power import SweepDesign, mean_logit

TAUS = (0.0, 1.0, 2.0)
"""Logit SD of the effect between tasks."""


def scenario(tasks: int, attempts: int, tau: float, base_rate: float = 0.4, spread: float = 2.0) -> SweepDesign:
    """A design whose effect differs between tasks with logit SD `tau`: each arm has its half of that variance."""
    return SweepDesign(tasks, attempts, base_rate, spread, tau / math.sqrt(2))


def lopsided(design: SweepDesign, sweeps: int, seed: int) -> NDArray[np.int64]:
    """Solved trials of two arms with the same rate over all such tasks: int [2, sweeps, tasks], the baseline first.

    The config alone deviates, with logit SD `task_spread`. On the scale of rates its gains and losses then differ in
    size and number, though they cancel on average, and the arms are not exchangeable.
    """
    generator = np.random.default_rng(seed)
    tasks, own = generator.standard_normal((2, sweeps, design.tasks))
    wider = math.hypot(design.spread, design.task_spread)
    base = mean_logit(design.base_rate, design.spread) + design.spread * tasks
    config = mean_logit(design.base_rate, wider) + design.spread * tasks + design.task_spread * own
    solved: NDArray[np.int64] = generator.binomial(design.attempts, special.expit(np.stack([base, config])))
    return solved
