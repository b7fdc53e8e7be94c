"""Configs of which no more is known than how many of their trials were solved.

Without tasks and attempts there is no pairing, and no telling whether trials share tasks: Fisher's exact test, which
takes them as independent, is all that can be done. It says nothing of other tasks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.records import Interval
from capvec.stats.intervals import wilson
from capvec.stats.multiplicity import holm
from capvec.stats.pooled import fisher_exact, fisher_pvalues
from capvec.stats.verdict import LEVEL

POWER = 0.8
_ALL, _QUANTILES = 500, 200
"""Trials of the baseline up to which each of its counts is looked at, and how many are beyond."""


@dataclass(frozen=True)
class CountedConfig:
    """One config's counts, and from `pvalue` on its comparison with the baseline; None for the baseline itself."""

    config: str
    solved: int
    n: int
    rate: float
    wilson: Interval
    pvalue: float | None = None
    """Fisher's exact test, two-sided."""
    holm: float | None = None
    """After Holm over all configs but the baseline."""
    rise: float | None = None
    """The least rise in pass rate from the baseline's that the test finds with power 80 %; None where it finds none."""
    fall: float | None = None
    """The same of a fall; negative."""


def compare_counts(counts: Mapping[str, tuple[int, int]], baseline: str) -> tuple[CountedConfig, ...]:
    """Compare every config with the baseline.

    Args:
        counts: config → (solved, trials), the baseline among them.
        baseline: its name.

    Returns:
        In the order of `counts`.
    """
    base_solved, base_n = counts[baseline]
    others = [name for name in counts if name != baseline]
    pvalues = {name: fisher_exact(*counts[name], base_solved, base_n).pvalue for name in others}
    corrected = dict(zip(others, holm(list(pvalues.values())), strict=True))
    level = LEVEL / max(1, len(others))
    base_rate = (base_solved + 0.5) / (base_n + 1)  # never 0 or 1
    found = []
    for name, (solved, n) in counts.items():
        rise, fall = detectable(n, base_n, base_rate, level) if name in corrected else (None, None)
        seen = pvalues.get(name), corrected.get(name), rise, fall
        found.append(CountedConfig(name, solved, n, solved / n, wilson(solved, n), *seen))
    return tuple(found)


def detectable(n: int, base_n: int, base_rate: float, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The least rise and the least fall that Fisher's test finds with power 80 %, rounded up to two digits at most.

    Args:
        n: trials of the config.
        base_n: of the baseline.
        base_rate: the baseline's pass rate.
        level: of the test.

    Returns:
        None for a change that it does not find, however large.
    """
    base, weights = _likely_counts(base_n, base_rate)
    below, above = _rejected(base, base_n, n, level)

    def power(rate: float) -> float:
        return float(weights @ (scipy.stats.binom.cdf(below, n, rate) + scipy.stats.binom.sf(above - 1, n, rate)))

    rise = _least(lambda change: power(base_rate + change), 1 - base_rate)
    fall = _least(lambda change: power(base_rate - change), base_rate)
    return rise, None if fall is None else -fall


def _likely_counts(n: int, rate: float) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Numbers of solved trials and their weights: all of them, or quantiles of their distribution where n is large."""
    if n <= _ALL:
        every = np.arange(n + 1)
        return every, scipy.stats.binom.pmf(every, n, rate)
    levels = (np.arange(_QUANTILES) + 0.5) / _QUANTILES
    return scipy.stats.binom.ppf(levels, n, rate).astype(np.int64), np.full(_QUANTILES, 1 / _QUANTILES)


def _rejected(
    base: NDArray[np.int64], base_n: int, n: int, level: float
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For each count of the baseline, the config's counts up to which, and from which on, the test rejects.

    They are −1 and n + 1 where it does not.
    """
    same = np.rint(base * (n / base_n)).astype(np.int64)

    def edge(outside: int) -> NDArray[np.int64]:
        far, near = np.full_like(same, outside), same
        while (abs(far - near) > 1).any():
            middle = (far + near) // 2
            rejects = fisher_pvalues(np.clip(middle, 0, n), n, base, base_n) < level
            apart = abs(far - near) > 1
            far, near = np.where(apart & rejects, middle, far), np.where(apart & ~rejects, middle, near)
        found: NDArray[np.int64] = far.astype(np.int64)
        return found

    return edge(-1), edge(n + 1)


def _least(power: Callable[[float], float], room: float) -> float | None:
    """The least change with power 80 %, by bisection."""
    if power(room) < POWER:
        return None
    low, high = 0.0, room
    while high - low > 1e-3 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if power(middle) >= POWER else (middle, high)
    digits = size_digits(high)
    return float(min(room, math.ceil(round(high * 10**digits, 6)) / 10.0**digits))


def size_digits(change: float) -> int:
    """Decimals with which a change of a rate is shown: two, and for one below 0.1 as many as give it two digits."""
    return 2 if abs(change) >= 0.1 else 1 - math.floor(math.log10(abs(change)))
