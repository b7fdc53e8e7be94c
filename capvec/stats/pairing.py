"""Tests that respect pairing: every config runs on the same tasks, from the same seeds."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import stats

EXACT_TASKS = 20
"""Up to so many tasks all 2ⁿ sign patterns are counted, for any differences."""
LARGEST_SUM = 1_000_000
"""Differences with a common denominator, as means of counts have, are exact for any number of tasks while the sum of
their numerators stays below this."""
_BLOCK = 500_000
"""Numbers that many tests at once hold side by side: 4 MB."""
DRAWS = 20_000
"""Sign patterns drawn where neither holds."""


@dataclass(frozen=True)
class SignFlipResult:
    """Two-sided sign-flip test over tasks."""

    statistic: float
    """Mean over tasks of the pass rate's difference, config minus baseline."""
    pvalue: float
    tasks: int
    method: Literal["exact", "monte carlo"]


@dataclass(frozen=True)
class McNemarResult:
    """Two-sided exact McNemar test over pairs of trials."""

    statistic: int
    """Pairs that only the config solved, minus pairs that only the baseline solved."""
    pvalue: float
    only_config: int
    only_baseline: int
    pairs: int
    """Concordant ones included."""


def sign_flip(differences: Sequence[float], *, seed: int = 0) -> SignFlipResult:
    """Permutation test of whether task-wise differences centre on zero (Fisher 1935, §21).

    Under the null a task's difference is symmetric about zero, as likely to have either sign. That holds where the
    config does nothing on any task; where it helps on some and harms on others, a mean of zero does not make it so. The
    p-value is the share of sign patterns whose mean is at least as far from zero as the observed one. All patterns are
    counted: by adding one task after another to the distribution of the sum (Pagano and Tritchler, JASA 1983, 78:435),
    or one by one. Where neither is feasible they are drawn, with (1 + b)/(1 + B) as the p-value (Phipson and Smyth,
    SAGMB 2010, 9:39).

    Args:
        differences: of the config minus the baseline, one for each task.
        seed: for the drawing.

    Raises:
        ValueError: no task.
    """
    values = np.asarray(differences, dtype=float)
    if values.size == 0:
        raise ValueError("the sign-flip test needs the difference of at least one task")
    pvalue, exact = _pvalue(values, seed)
    return SignFlipResult(float(values.mean()), pvalue, values.size, "exact" if exact else "monte carlo")


def _pvalue(values: NDArray[np.float64], seed: int) -> tuple[float, bool]:
    whole = _numerators(values)
    if whole is not None:
        return _by_convolution(whole), True
    if values.size <= EXACT_TASKS:
        sums, extra = _signed_sums(values), 0
    else:
        sums, extra = np.random.default_rng(seed).choice((-1, 1), size=(DRAWS, values.size)) @ values, 1
    # Sums of equal terms in another order differ in their last bits; they are ties.
    as_far = np.abs(sums) >= abs(values.sum()) - 1e-9
    return float((as_far.sum() + extra) / (len(sums) + extra)), not extra


def _numerators(values: NDArray[np.float64]) -> list[int] | None:
    """The differences over their common denominator; None where they have none small enough to be of use."""
    fractions = [Fraction(float(value)).limit_denominator(1000) for value in values]
    scale = math.lcm(*(fraction.denominator for fraction in fractions))
    if (
        scale * float(np.abs(values).sum()) > LARGEST_SUM
        or scale * np.abs(values - np.array(fractions, float)).max() > 1e-6
    ):
        return None
    return [int(fraction * scale) for fraction in fractions]


def _by_convolution(whole: Sequence[int]) -> float:
    """Share of sign patterns whose sum is at least as far from zero, from the distribution of the sum."""
    steps = [abs(value) for value in whole if value]
    reach = sum(steps)
    chance = np.zeros(2 * reach + 1)
    chance[reach] = 1.0
    for step in steps:
        up = np.zeros_like(chance)
        up[step:] = chance[:-step]
        up[:-step] += chance[step:]
        chance = up / 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(sum(whole))
    return min(1.0, float(chance[far].sum()))


def _signed_sums(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """The sum under each of the 2ⁿ sign patterns: 8 MB at 20 tasks, where a table of signs would take 160."""
    sums = np.zeros(1)
    for value in values:
        sums = np.concatenate([sums + value, sums - value])
    return sums


def sign_flip_pvalues(whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """The exact p-values of many sign-flip tests at once, for simulations.

    The characteristic function of Σ ±d_i is Π cos(t·d_i); its values at 2πj/M, with M beyond the sum's range, give the
    distribution by an inverse Fourier transform, to about 1e-15.

    Args:
        whole: int [tests, tasks], differences over a common denominator.

    Returns:
        float64 [tests].
    """
    blocks = np.array_split(whole, max(1, math.ceil(len(whole) * np.abs(whole).sum(axis=1).max(initial=0) / _BLOCK)))
    return np.concatenate([_block_pvalues(block) for block in blocks])


def _block_pvalues(whole: NDArray[np.int64]) -> NDArray[np.float64]:
    tests, tasks = whole.shape
    size = np.abs(whole)
    reach = int(size.sum(axis=1).max(initial=0))
    period = 2 * reach + 2
    waves = np.cos(2 * np.pi * np.outer(np.arange(int(size.max(initial=0)) + 1), np.arange(period // 2 + 1)) / period)
    product = np.ones((tests, waves.shape[1]))
    for task in range(tasks):
        product *= waves[size[:, task]]
    chance = np.fft.irfft(product, period, axis=1)[:, : reach + 1]
    chance[:, 1:] *= 2  # both signs of a sum
    tail = np.cumsum(chance[:, ::-1], axis=1)[:, ::-1]
    found: NDArray[np.float64] = tail[np.arange(tests), np.abs(whole.sum(axis=1))]
    return np.clip(found, 0.0, 1.0)


def smallest_p(tasks: int) -> float:
    """The least p-value that the sign-flip test can give: two of 2ⁿ patterns, when all differences have one sign."""
    return float(min(1.0, 2.0 ** (1 - tasks)))


def mcnemar_exact(only_config: int, only_baseline: int, concordant: int = 0) -> McNemarResult:
    """Exact McNemar test on pairs of trials with the same task and attempt (McNemar 1947), a binomial test at ½.

    A pair is one (task, attempt): both trials ran from the same seed. With several attempts a task gives several pairs,
    which the test takes as independent: it then speaks about these tasks only, not about others like them.

    Args:
        only_config: pairs that the config solved and the baseline did not.
        only_baseline: the other way round.
        concordant: pairs in which both did the same; they do not enter the p-value.

    Raises:
        ValueError: a negative count.
    """
    if min(only_config, only_baseline, concordant) < 0:
        raise ValueError(f"discordant pairs {only_config} and {only_baseline}: expected counts of at least 0")
    n = only_config + only_baseline
    pvalue = float(stats.binomtest(only_config, n).pvalue) if n else 1.0
    return McNemarResult(only_config - only_baseline, pvalue, only_config, only_baseline, n + concordant)
