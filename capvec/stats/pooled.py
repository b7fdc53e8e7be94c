"""Tests on pooled counts, which take the trials as independent: Fisher's, which the field reports, and Boschloo's."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LARGEST_TABLE = 250_000
"""Boschloo's test looks at (n + 1)·(m + 1) tables; beyond so many it is left out (and is next to Fisher's there)."""
_TIE = 1 + 1e-7
"""Probabilities that differ by less are ties, as in R's `fisher.test`."""


@dataclass(frozen=True)
class FisherResult:
    """Two-sided Fisher's exact test."""

    statistic: float
    """Sample odds ratio of the config against the baseline; inf or nan on degenerate tables."""
    pvalue: float


@dataclass(frozen=True)
class BoschlooResult:
    """Two-sided Boschloo's exact test."""

    statistic: float
    """Fisher's two-sided p-value, by which the tables are ordered."""
    pvalue: float
    """Never above the statistic."""


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
    result = stats.fisher_exact([[solved, n - solved], [base_solved, base_n - base_solved]])
    return FisherResult(float(result.statistic), float(result.pvalue))


def boschloo_exact(solved: int, n: int, base_solved: int, base_n: int) -> BoschlooResult | None:
    """Boschloo's unconditional test (Statistica Neerlandica 1970, 24:1): as exact as Fisher's, and never less powerful.

    Tables are ordered by Fisher's two-sided p-value; the p-value is the largest probability, over the common pass rate
    π, of a table whose Fisher p is no larger than the observed one. (`scipy.stats.boschloo_exact` doubles a one-sided
    p-value instead, which may exceed Fisher's.) The maximum is sought on a grid of π, and again around its best point.

    Args, Raises: as `fisher_exact`.

    Returns:
        None where there are more than `LARGEST_TABLE` tables.
    """
    _check(solved, n, base_solved, base_n)
    if (n + 1) * (base_n + 1) > LARGEST_TABLE:
        return None
    table = fisher_table(n, base_n)
    observed = float(table[solved, base_solved])
    extreme = (table <= observed * _TIE).astype(float)
    grid = np.linspace(0, 1, 501)
    for _ in range(3):
        sizes = _sizes(extreme, grid)
        best = int(np.argmax(sizes))
        grid = np.linspace(grid[max(best - 1, 0)], grid[min(best + 1, len(grid) - 1)], 101)
    return BoschlooResult(observed, min(float(sizes[best]), observed))


def _sizes(extreme: NDArray[np.float64], rates: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability of the `extreme` tables under each common rate."""
    ours, theirs = (stats.binom.pmf(np.arange(size), size - 1, rates[:, None]) for size in extreme.shape)
    total: NDArray[np.float64] = np.einsum("rx,rx->r", ours @ extreme, theirs)
    return total


@lru_cache(maxsize=32)
def fisher_table(n: int, base_n: int) -> NDArray[np.float64]:
    """Fisher's two-sided p-value of every table: entry [x, y] for x of n against y of base_n solved.

    The sum of the probabilities, given the margins, of all tables that are no likelier than the observed one.
    """
    table = np.ones((n + 1, base_n + 1))
    for total in range(n + base_n + 1):
        ours = np.arange(max(0, total - base_n), min(n, total) + 1)
        chance = stats.hypergeom.pmf(ours, n + base_n, total, n)
        ascending = np.sort(chance)
        below = np.concatenate([[0.0], np.cumsum(ascending)])
        table[ours, total - ours] = below[np.searchsorted(ascending, chance * _TIE, side="right")]
    table = np.minimum(table, 1.0)
    table.flags.writeable = False
    return table


def _check(solved: int, n: int, base_solved: int, base_n: int) -> None:
    if not (0 <= solved <= n and 0 <= base_solved <= base_n):
        raise ValueError(f"{solved} of {n} against {base_solved} of {base_n}: expected 0 ≤ solved ≤ n on both sides")
