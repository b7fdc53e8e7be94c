"""Configs of which no more is known than how many of their trials were solved.

Without tasks and attempts there is no pairing, and no telling whether trials share tasks: Fisher's exact test, which
takes them as independent, is all that can be done. It says nothing of other tasks.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from scipy import stats

from capvec.records import Interval
from capvec.stats.intervals import wilson
from capvec.stats.multiplicity import holm
from capvec.stats.pooled import fisher_exact, fisher_table
from capvec.stats.power import observed_rate
from capvec.stats.verdict import LEVEL

POWER = 0.8
_LARGEST = 2_000
"""Trials of an arm up to which the power of Fisher's test is computed: the table of its p-values is square."""
_STEP = 0.01


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
    base_rate = observed_rate(base_solved, base_n)
    found = []
    for name, (solved, n) in counts.items():
        rise, fall = detectable(n, base_n, base_rate, level) if name in corrected else (None, None)
        seen = pvalues.get(name), corrected.get(name), rise, fall
        found.append(CountedConfig(name, solved, n, solved / n, wilson(solved, n), *seen))
    return tuple(found)


def detectable(n: int, base_n: int, base_rate: float, level: float = LEVEL) -> tuple[float | None, float | None]:
    """The least rise and the least fall that Fisher's test finds with power 80 %, to a hundredth.

    Args:
        n: trials of the config.
        base_n: of the baseline.
        base_rate: the baseline's pass rate.
        level: of the test.

    Returns:
        None for a change that it does not find, however large, and for more than 2,000 trials.
    """
    if max(n, base_n) > _LARGEST:
        return None, None
    rejects = fisher_table(n, base_n) < level
    base = stats.binom.pmf(np.arange(base_n + 1), base_n, base_rate)

    def power(rate: float) -> float:
        return float(stats.binom.pmf(np.arange(n + 1), n, rate) @ rejects @ base)

    steps = np.arange(1, int(1 / _STEP) + 1) * _STEP
    rise = next((step for step in steps if base_rate + step <= 1 and power(base_rate + step) >= POWER), None)
    fall = next((-step for step in steps if base_rate - step >= 0 and power(base_rate - step) >= POWER), None)
    return (None if rise is None else float(rise)), (None if fall is None else float(fall))
