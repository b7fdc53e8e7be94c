"""Counts alone: Fisher's test and what it could have seen."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from capvec.stats.counts import compare_counts, detectable

pytestmark = pytest.mark.unit


def test_the_original_studys_table_shows_nothing_and_could_not_have():
    base, same, less = compare_counts({"baseline": (2, 6), "a": (2, 6), "b": (1, 6)}, "baseline")
    assert (base.pvalue, base.rise) == (None, None)
    assert same.pvalue == 1.0
    # [[1, 5], [2, 4]]: no table of these margins is likelier than 1 + 2 (27/66 each way), so p = 1.
    assert less.pvalue == pytest.approx(1.0)
    assert (less.rise, less.fall) == (None, None)


def test_p_is_corrected_over_all_but_the_baseline():
    rows = compare_counts({"x": (30, 40), "baseline": (10, 40), "y": (11, 40)}, "baseline")
    p = stats.fisher_exact([[30, 10], [10, 30]]).pvalue
    assert (rows[0].pvalue, rows[0].holm) == (pytest.approx(p), pytest.approx(2 * p))


def test_the_least_rise_is_the_least_that_a_simulation_finds_in_four_of_five():
    rise, _ = detectable(40, 40, 0.3)
    generator = np.random.default_rng(0)

    def found(rate):
        pairs = zip(generator.binomial(40, rate, 2_000), generator.binomial(40, 0.3, 2_000), strict=True)
        known = {}
        return np.mean(
            [
                known.setdefault(pair, stats.fisher_exact([[pair[0], 40 - pair[0]], [pair[1], 40 - pair[1]]]).pvalue)
                < 0.05
                for pair in pairs
            ]
        )

    # 2,000 draws have a standard error of 0.009.
    assert found(0.3 + rise) > 0.77
    assert found(0.3 + rise - 0.03) < 0.8
