"""Logistic regression of many labellings at once, against one that takes small, sure steps."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.directions.logistic import fit_logistic, fit_logistic_surely

pytestmark = pytest.mark.unit


def scaled_gram(seed, n, d, loud):
    """Of traces whose first coordinate is `loud` times as large as the others, with a mean of 1 on its diagonal."""
    x = np.random.default_rng(seed).standard_normal((n, d)) * np.array([loud, *[1.0] * (d - 1)])
    x -= x.mean(axis=0)
    gram = x @ x.T
    return gram / (np.trace(gram) / n)


def labellings(seed, n, positives, count=30):
    rng = np.random.default_rng(seed)
    return np.array([rng.permutation(n) < positives for _ in range(count)])


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(2, 20), st.data(), st.sampled_from([2, 8, 400]), st.sampled_from([1.0, 30.0]))
def test_what_is_found_is_the_minimum_and_the_rest_is_said_not_to_be(seed, n, data, d, loud):
    gram, labels = scaled_gram(seed, n, d, loud), labellings(seed, n, data.draw(st.integers(1, n - 1)))
    weights, found = fit_logistic(gram, labels)
    assert not np.isnan(weights[found]).any()
    # At the minimum w = y − σ(Kw + b) for some b: log odds less Kw do not differ between traces.
    y, w = labels[found].astype(float), weights[found]
    assert np.abs(w.sum(axis=1)).max(initial=0) < 1e-6
    p = np.clip(y - w, 1e-12, 1 - 1e-12)
    rest = np.log(p / (1 - p)) - w @ gram
    assert np.ptp(rest, axis=1).max(initial=0) < 1e-5
    np.testing.assert_allclose(w, fit_logistic_surely(gram, labels[found]), atol=2e-6)


def test_wide_residuals_are_all_found_without_the_sure_steps():
    for seed in range(3):
        assert fit_logistic(scaled_gram(seed, 26, 2560, 1.0), labellings(seed, 26, 6))[1].all()


def test_more_labellings_than_a_block_holds_are_each_fitted_as_alone():
    gram, labels = scaled_gram(0, 12, 40, 2.0), labellings(0, 12, 5, count=4_000)
    weights, found = fit_logistic(gram, labels)
    for row in (0, 1_999, 3_999):
        assert found[row]
        np.testing.assert_allclose(weights[row], fit_logistic(gram, labels[row : row + 1])[0][0], atol=1e-7)
