"""Tests that respect pairing: every config runs on the same tasks, from the same seeds."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.decimals import exact

EXACT_TASKS = 20
"""Up to so many tasks all 2ⁿ sign patterns are counted, for any differences."""
LARGEST_SUM = 1_000_000
"""Differences that are multiples of one number, as means of counts are, are exact for any number of tasks while these
multiples add up to no more than this."""
_BLOCK = 500_000
"""Numbers that many tests at once hold side by side: 4 MB."""
_TINY = 1e-300
"""Instead of 0, which has no logarithm, and of less, with which arithmetic is slow."""
_UNSEEN = 1e-25
"""What a sum of many changes by less than rounding does."""
DRAWS = 20_000
"""Sign patterns drawn where neither holds."""


@dataclass(frozen=True)
class SignFlipResult:
    """Two-sided sign-flip test over tasks."""

    statistic: float
    """Mean over tasks of the difference, config minus baseline."""
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


def sign_flip(differences: Sequence[float | Fraction], *, seed: int = 0) -> SignFlipResult:
    """Permutation test of whether task-wise differences centre on zero (Fisher 1935, §21).

    Under the null a task's difference is symmetric about zero, as likely to have either sign. That holds where the
    config does nothing on any task; where it helps on some and harms on others, a mean of zero does not make it so. The
    p-value is the share of sign patterns whose mean is at least as far from zero as the observed one. All patterns are
    counted: by adding one task after another to the distribution of the sum (Pagano and Tritchler, JASA 1983, 78:435),
    or from the sums of either half of the tasks (Horowitz and Sahni, Journal of the ACM 1974, 21:277). Where neither is
    feasible they are drawn, with (1 + b)/(1 + B) as the p-value (Phipson and Smyth, SAGMB 2010, 9:39).

    The sums are those of exact numbers, so the p-value does not depend on the scale of the differences, and equal sums
    tie whatever their order.

    Args:
        differences: of the config minus the baseline, one for each task. A float is taken as `decimals.exact` takes it.
        seed: for the drawing.

    Raises:
        ValueError: no task.
    """
    if not len(differences):
        raise ValueError("the sign-flip test needs the difference of at least one task")
    values = [exact(value) for value in differences]
    pvalue, counted = _pvalue(_multiples(values), seed)
    mean = float(sum(values, Fraction()) / len(values))
    return SignFlipResult(mean, pvalue, len(values), "exact" if counted else "monte carlo")


def _multiples(values: Sequence[Fraction]) -> list[int]:
    """Whole numbers in the proportions of the values, as small as they can be."""
    denominator = math.lcm(*(value.denominator for value in values))
    whole = [int(value * denominator) for value in values]
    common = math.gcd(*whole) or 1
    return [value // common for value in whole]


def _pvalue(whole: Sequence[int], seed: int) -> tuple[float, bool]:
    """The p-value, and whether every pattern was counted."""
    if not any(whole):
        return 1.0, True
    if sum(map(abs, whole)) <= LARGEST_SUM:
        return _by_convolution(whole), True
    if len(whole) <= EXACT_TASKS:
        return _by_halves(whole), True
    signs = np.random.default_rng(seed).choice((-1, 1), size=(DRAWS, len(whole)))
    sums = signs.astype(object) @ np.array(whole, dtype=object)  # whole numbers of any size
    return float((np.count_nonzero(np.abs(sums) >= abs(sum(whole))) + 1) / (DRAWS + 1)), False


def _by_convolution(whole: Sequence[int]) -> float:
    """Share of sign patterns whose sum is at least as far from zero, from the distribution of the sum."""
    halves = np.ones(1)  # of every other number, since all sums are odd or all are even
    for step in filter(None, map(abs, whole)):
        longer = np.zeros(len(halves) + step)
        longer[step:] = halves
        longer[:-step] += halves
        halves = longer / 2
    reach = len(halves) - 1
    chance = np.zeros(2 * reach + 1)
    chance[::2] = halves
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(sum(whole))
    return min(1.0, float(chance[far].sum()))


def _by_halves(whole: Sequence[int]) -> float:
    """The same from the sums of either half of the tasks: how many of one complete each of the other."""
    middle, observed = len(whole) // 2, abs(sum(whole))
    one, other = _signed_sums(whole[:middle]), sorted(_signed_sums(whole[middle:]))
    if not observed:
        return 1.0
    as_high = sum(len(other) - bisect_left(other, observed - value) for value in one)
    return math.ldexp(as_high, 1 - len(whole))  # as many are as low


def _signed_sums(whole: Sequence[int]) -> list[int]:
    """The sum under each of the 2ⁿ sign patterns."""
    sums = [0]
    for value in whole:
        sums = [total + signed for total in sums for signed in (value, -value)]
    return sums


def sign_flip_pvalues(whole: NDArray[np.int64]) -> NDArray[np.float64]:
    """The exact p-values of many sign-flip tests at once, for simulations.

    The characteristic function of S = Σ ±d_i is φ(t) = Π cos(t·d_i). With M beyond the range of S, and t_j = 2πj/M,

        P(|S| < s) = Σ_j φ(t_j)·sin((2s − 1)·t_j/2)/sin(t_j/2) / M,

    to about 1e-14. Of many tasks, few φ(t_j) are more than rounding.

    Args:
        whole: int [tests, tasks], differences over a common denominator.

    Returns:
        float64 [tests].
    """
    blocks = np.array_split(whole, max(1, math.ceil(len(whole) * np.abs(whole).sum(axis=1).max(initial=0) / _BLOCK)))
    return np.concatenate([_block_pvalues(block) for block in blocks])


def _block_pvalues(whole: NDArray[np.int64]) -> NDArray[np.float64]:
    tests, _ = whole.shape
    largest = int(np.abs(whole).max(initial=0))
    # How many tasks of a test have each size: the product over tasks is one over sizes, which are fewer.
    places = np.abs(whole) + (largest + 1) * np.arange(tests)[:, None]
    counts = np.bincount(places.ravel(), minlength=tests * (largest + 1)).reshape(tests, -1)
    sizes = np.flatnonzero(counts.any(axis=0))
    counts = counts[:, sizes].astype(float)
    reach = int((counts @ sizes).max(initial=0))
    period = 2 * reach + 1
    angles = np.pi * np.arange(1, reach + 1) / period  # t_j/2; those beyond mirror them
    waves = np.cos(2 * np.outer(sizes, angles))
    logs = np.log(np.maximum(np.abs(waves), _TINY))
    seen = counts.min(axis=0) @ logs > math.log(_UNSEEN)  # no test has a larger wave: of many tasks few are seen
    waves, logs, angles = waves[:, seen], logs[:, seen], angles[seen]
    odd = (counts @ (waves < 0).astype(float)).astype(np.int64) & 1
    product = np.exp(np.maximum(counts @ logs, math.log(_TINY))) * (1 - 2 * odd)
    observed = np.abs(whole.sum(axis=1))
    inner = 2 * observed - 1  # as many sums are nearer to zero
    kernel = np.sin(np.outer(inner, angles)) / np.sin(angles)
    nearer = (inner + 2 * (product * kernel).sum(axis=1)) / period
    found: NDArray[np.float64] = np.where(observed, 1 - nearer, 1.0)
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
    pvalue = float(scipy.stats.binomtest(only_config, n).pvalue) if n else 1.0
    return McNemarResult(only_config - only_baseline, pvalue, only_config, only_baseline, n + concordant)
