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


def found_by_scipy(n, base_n, base_rate, rate, draws=1_000):
    """The share of simulated pairs of counts that `scipy.stats.fisher_exact` finds to differ."""
    generator = np.random.default_rng(0)
    pairs = zip(generator.binomial(n, rate, draws), generator.binomial(base_n, base_rate, draws), strict=True)
    different, times = np.unique([*pairs], axis=0, return_counts=True)
    pvalues = [stats.fisher_exact([[x, n - x], [y, base_n - y]]).pvalue for x, y in different]
    return np.average(np.array(pvalues) < 0.05, weights=times)


@pytest.mark.parametrize(
    ("n", "base_n", "base_rate"),
    [(40, 40, 0.3), (3_000, 3_000, 0.4), (60, 5_000, 0.5), (5_000, 60, 0.5), (200_000, 100_000, 0.004)],
)
def test_the_least_changes_are_the_least_that_scipy_finds_in_four_of_five(n, base_n, base_rate):
    # 1,000 draws have a standard error of 0.013. What is shown is rounded up, by a tenth at most.
    for change in detectable(n, base_n, base_rate):
        assert found_by_scipy(n, base_n, base_rate, base_rate + change) > 0.76
        assert found_by_scipy(n, base_n, base_rate, base_rate + 0.85 * change) < 0.8


def test_a_fall_to_nothing_is_none_only_where_scipy_finds_none():
    rise, fall = detectable(5_000, 5_000, 0.001)
    assert fall is None
    assert found_by_scipy(5_000, 5_000, 0.001, 0.0) < 0.8
    assert found_by_scipy(5_000, 5_000, 0.001, 0.001 + rise) > 0.76
    _, fall = detectable(5_000, 5_000, 0.004)
    assert found_by_scipy(5_000, 5_000, 0.004, 0.004 + fall) > 0.76


def test_a_baseline_of_thousands_could_have_shown_a_small_change():
    _, row = compare_counts({"baseline": (2_000, 5_000), "a": (2_010, 5_000)}, "baseline")
    # By the usual formula, (1.96 + 0.84) * sqrt(2 * 0.4 * 0.6 / 5000) = 0.027, and Fisher's test finds a little less.
    assert (row.rise, row.fall) == (pytest.approx(0.028, abs=0.0011), pytest.approx(-0.028, abs=0.0011))
