"""Fisher's exact test on pooled counts, which takes the trials as independent."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import scipy
from numpy.typing import NDArray

_TIE = 1 + 1e-7
"""Probabilities that differ by less are ties, as in R's `fisher.test`."""


@dataclass(frozen=True)
class FisherResult:
    """Two-sided Fisher's exact test."""

    statistic: float
    """Sample odds ratio of the config against the baseline; inf or nan on degenerate tables."""
    pvalue: float


def fisher_exact(solved: int, n: int, base_solved: int, base_n: int) -> FisherResult:
    """Test whether the config's pass rate differs from the baseline's (Fisher 1935), by `scipy.stats.fisher_exact`.

    It takes the trials as independent; the tests in `pairing` respect that they share tasks.

    Args:
        solved: solved trials of the config, out of `n`.
        n: its valid trials.
        base_solved: solved trials of the baseline, out of `base_n`.
        base_n: its valid trials.

    Raises:
        ValueError: a count below 0, or more solved than valid.
    """
    _check(solved, n, base_solved, base_n)
    result = scipy.stats.fisher_exact([[solved, n - solved], [base_solved, base_n - base_solved]])
    return FisherResult(float(result.statistic), float(result.pvalue))


@lru_cache(maxsize=32)
def fisher_table(n: int, base_n: int) -> NDArray[np.float64]:
    """Fisher's two-sided p-value of every table: entry [x, y] for x of n against y of base_n solved.

    The sum of the probabilities, given the margins, of all tables that are no likelier than the observed one.
    """
    table = np.ones((n + 1, base_n + 1))
    for total in range(n + base_n + 1):
        ours = np.arange(max(0, total - base_n), min(n, total) + 1)
        chance = scipy.stats.hypergeom.pmf(ours, n + base_n, total, n)
        ascending = np.sort(chance)
        below = np.concatenate([[0.0], np.cumsum(ascending)])
        table[ours, total - ours] = below[np.searchsorted(ascending, chance * _TIE, side="right")]
    table = np.minimum(table, 1.0)
    table.flags.writeable = False
    return table


def fisher_pvalues(
    solved: NDArray[np.int64], n: int, base_solved: NDArray[np.int64], base_n: int
) -> NDArray[np.float64]:
    """The p-values of `fisher_exact` of many tables at once, of any size; the counts are int `[tables]`."""
    total = solved + base_solved
    low, high = np.maximum(0, total - base_n), np.minimum(n, total)
    table = (n + base_n, total, n)
    most = _chance(solved, n, total, base_n) * _TIE
    mode = np.clip((total + 1) * (n + 1) // (n + base_n + 2), low, high)
    # On the other side of the mode, probabilities fall away from it: the first that is no larger is looked for.
    upper = solved < mode
    near, far = mode, np.where(upper, high + 1, low - 1)
    while (apart := abs(far - near) > 1).any():
        middle = (near + far) // 2
        rare = _chance(middle, n, total, base_n) <= most
        near, far = np.where(apart & ~rare, middle, near), np.where(apart & rare, middle, far)
    below, above = np.where(upper, solved, far), np.where(upper, far, solved)
    likeliest = _chance(mode, n, total, base_n) <= most  # two tables may be equally likely
    return np.where(
        likeliest, 1.0, scipy.stats.hypergeom.cdf(below, *table) + scipy.stats.hypergeom.sf(above - 1, *table)
    )


def _chance(solved: NDArray[np.int64], n: int, total: NDArray[np.int64], base_n: int) -> NDArray[np.float64]:
    """The hypergeometric probability of a table; SciPy's takes hundreds of times as long at tens of thousands."""

    def log_ways(every: int | NDArray[np.int64], some: NDArray[np.int64]) -> NDArray[np.float64]:
        ways: NDArray[np.float64] = (
            scipy.special.gammaln(every + 1) - scipy.special.gammaln(some + 1) - scipy.special.gammaln(every - some + 1)
        )
        return ways

    chance: NDArray[np.float64] = np.exp(
        log_ways(n, solved) + log_ways(base_n, total - solved) - log_ways(n + base_n, total)
    )
    return chance


def _check(solved: int, n: int, base_solved: int, base_n: int) -> None:
    if not (0 <= solved <= n and 0 <= base_solved <= base_n):
        raise ValueError(f"{solved} of {n} against {base_solved} of {base_n}: expected 0 ≤ solved ≤ n on both sides")
