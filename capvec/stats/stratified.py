"""The Cochran–Mantel–Haenszel test with the task as the stratum: about these tasks, and no others."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray


@dataclass(frozen=True)
class Stratum:
    """One task: solved of valid trials on both sides."""

    solved: int
    n: int
    base_solved: int
    base_n: int


@dataclass(frozen=True)
class CmhResult:
    """Whether the odds of solving differ, with the tasks kept apart.

    It takes the effect as the same on every task of the sweep. Where effects differ from task to task it rejects too
    often as a test about other tasks (`reports/statistics/SIMULATION.md`); the sign-flip test is for those.
    """

    statistic: float
    """χ² with 1 degree of freedom and continuity correction; 0 where no task tells anything, and where the config
    solves within half a trial of what is expected."""
    pvalue: float
    """Exact: conditional on the margins of every task, the sum over all totals that are no likelier."""
    pvalue_asymptotic: float
    odds_ratio: float
    """Mantel and Haenszel's common odds ratio, config against baseline; inf or nan where it does not exist."""
    informative: int
    """Tasks that some trials solve and others do not; the rest cannot change the result."""


def cmh(strata: Sequence[Stratum]) -> CmhResult:
    """The test of Mantel and Haenszel (JNCI 1959, 22:719), asymptotic and exact (Agresti, Categorical Data Analysis,
    2nd ed., §6.3 and §6.7), as R's `mantelhaen.test` with and without `exact = TRUE`.

    Raises:
        ValueError: no stratum, or counts that cannot be.
    """
    if not strata or any(not (0 <= s.solved <= s.n >= 1 and 0 <= s.base_solved <= s.base_n >= 1) for s in strata):
        raise ValueError(f"{len(strata)} strata: expected at least one, each with trials on both sides")
    a, n, c, m = (np.array(column, dtype=float) for column in zip(*map(_fields, strata), strict=True))
    total, solved = n + m, a + c
    informative = (solved > 0) & (solved < total)
    excess = float((a - n * solved / total).sum())
    variance = float((n * m * solved * (total - solved) / (total**2 * np.maximum(total - 1, 1))).sum())
    statistic = max(abs(excess) - 0.5, 0.0) ** 2 / variance if variance else 0.0
    for_config, for_baseline = float((a * (m - c) / total).sum()), float((c * (n - a) / total).sum())
    return CmhResult(
        statistic=statistic,
        pvalue=_exact(strata),
        pvalue_asymptotic=float(scipy.stats.chi2.sf(statistic, 1)),
        odds_ratio=for_config / for_baseline if for_baseline else (math.inf if for_config else math.nan),
        informative=int(informative.sum()),
    )


def _fields(stratum: Stratum) -> tuple[int, int, int, int]:
    return stratum.solved, stratum.n, stratum.base_solved, stratum.base_n


def _exact(strata: Sequence[Stratum]) -> float:
    """The config's solved trials over all tasks are a sum of independent hypergeometric counts."""
    counts = [np.arange(max(0, a + c - m), min(n, a + c) + 1) for a, n, c, m in map(_fields, strata)]
    lengths = list(map(len, counts))
    # Of all strata at once: a call of its own for each takes a hundred times as long as its few numbers.
    margins = np.repeat([(n + m, a + c, n) for a, n, c, m in map(_fields, strata)], lengths, axis=0).T
    chances = np.split(scipy.stats.hypergeom.pmf(np.concatenate(counts), *margins), np.cumsum(lengths)[:-1])
    chance: NDArray[np.float64] = functools.reduce(np.convolve, chances, np.ones(1))
    observed = sum(stratum.solved - int(possible[0]) for stratum, possible in zip(strata, counts, strict=True))
    return min(1.0, float(chance[chance <= chance[observed] * (1 + 1e-7)].sum()))
