"""Fisher's exact test."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from scipy import stats

from capvec.stats.pooled import fisher_exact, fisher_pvalues

pytestmark = pytest.mark.unit

counts = st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


def by_enumeration(a, n, b, m):
    """Sum of the probabilities of all tables with these margins that are no likelier than the observed one."""
    total = a + b
    weights = {k: math.comb(n, k) * math.comb(m, total - k) for k in range(max(0, total - m), min(n, total) + 1)}
    return sum(weight for weight in weights.values() if weight <= weights[a]) / sum(weights.values())


@given(counts, counts)
def test_fisher_is_the_hypergeometric_sum_and_symmetric(one, two):
    result = fisher_exact(*one, *two)
    assert result.pvalue == pytest.approx(by_enumeration(*one, *two), rel=1e-6)
    assert fisher_exact(*two, *one).pvalue == pytest.approx(result.pvalue, rel=1e-9)
    unsolved = [(n - k, n) for k, n in (one, two)]
    assert fisher_exact(*unsolved[0], *unsolved[1]).pvalue == pytest.approx(result.pvalue, rel=1e-9)


@example((0, 1), (1, 1), 1)  # as likely as the other table
@given(counts, counts, st.sampled_from([1, 7, 1000]))
def test_many_tables_at_once_have_the_p_values_of_scipy_whatever_their_size(one, two, times):
    (x, n), (y, m) = ((solved * times, of * times) for solved, of in (one, two))
    (found,) = fisher_pvalues(np.array([x]), n, np.array([y]), m)
    assert found == pytest.approx(stats.fisher_exact([[x, n - x], [y, m - y]]).pvalue, rel=1e-6, abs=1e-12)


def test_fishers_tea():
    # Fisher 1935, chapter II: 3 of 4 cups right, one-sided 17/70, two-sided 34/70.
    assert fisher_exact(3, 4, 1, 4).pvalue == pytest.approx(34 / 70)


def test_impossible_tables_are_refused():
    with pytest.raises(ValueError, match="5 of 4 against 0 of 4"):
        fisher_exact(5, 4, 0, 4)
