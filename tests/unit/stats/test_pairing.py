"""The sign-flip test over tasks, and McNemar's test over pairs of trials."""

from __future__ import annotations

import math
from fractions import Fraction
from itertools import product
from operator import mul

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.stats.pairing import mcnemar_exact, sign_flip, sign_flip_pvalues

pytestmark = pytest.mark.unit


@settings(max_examples=40)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.5, 1.0]), min_size=1, max_size=7))
def test_sign_flip_counts_every_pattern(differences):
    observed = abs(sum(differences))
    patterns = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    expected = sum(value >= observed - 1e-9 for value in patterns) / len(patterns)
    result = sign_flip(differences)
    assert result.pvalue == pytest.approx(expected)
    assert sign_flip([-d for d in differences]).pvalue == pytest.approx(expected)
    assert result.statistic == pytest.approx(np.mean(differences))


def test_six_tasks_that_all_improve_reach_two_in_64():
    assert sign_flip([1 / 3] * 6).pvalue == pytest.approx(2 / 2**6)


def test_twenty_tasks_are_still_counted_one_by_one():
    # Only the observed pattern and its mirror image reach so far.
    assert sign_flip([0.1] * 20).pvalue == 2 / 2**20


def test_forty_tasks_are_exact_too_while_their_differences_have_a_common_denominator():
    result = sign_flip([1 / 3] * 40)
    assert result.method == "exact"
    assert result.pvalue == pytest.approx(2 / 2**40, rel=1e-9)


def test_without_a_common_denominator_many_tasks_are_drawn_the_same_every_time_and_never_reach_zero():
    differences = [math.pi / 4 + index / 7919 for index in range(40)]
    result = sign_flip(differences)
    assert result == sign_flip(differences)
    assert (result.method, result.pvalue) == ("monte carlo", 1 / 20_001)


whole_numbers = st.integers(-9, 9) | st.integers(-(10**12) + 1, 10**12 - 1)


@given(st.lists(whole_numbers, min_size=1, max_size=9), st.integers(-9, 12))
def test_every_pattern_is_counted_exactly_on_any_scale(whole, scale):
    """Also where small differences stand beside ones that are larger by twelve digits."""
    differences = [Fraction(number) * Fraction(10) ** scale for number in whole]
    observed = abs(sum(whole))
    far = sum(abs(sum(map(mul, signs, whole))) >= observed for signs in product((1, -1), repeat=len(whole)))
    assert sign_flip(differences).pvalue == far / 2 ** len(whole)
    assert sign_flip([float(f"{number}e{scale}") for number in whole]).pvalue == far / 2 ** len(whole)


def test_many_tasks_are_drawn_with_exact_sums():
    # Every other pattern falls short of the observed one, if only by the smallest difference.
    differences = [1e12, *(index / 7919 for index in range(1, 40))]
    result = sign_flip(differences)
    assert (result.method, result.pvalue) == ("monte carlo", 1 / 20_001)


def test_many_sign_flip_tests_at_once_are_each_the_one_alone():
    whole = np.random.default_rng(0).integers(-5, 6, (40, 9))
    alone = [sign_flip([value / 5 for value in row]).pvalue for row in whole]
    assert sign_flip_pvalues(whole) == pytest.approx(alone, abs=1e-12)
    assert sign_flip_pvalues(np.zeros((2, 3), dtype=np.int64)).tolist() == [1.0, 1.0]


@pytest.mark.parametrize(("tasks", "attempts"), [(300, 1), (120, 20), (3, 400)])
def test_sign_flip_tests_of_many_tasks_or_many_sizes_at_once_are_each_the_one_alone(tasks, attempts):
    whole = np.random.default_rng(tasks).integers(-attempts, attempts + 1, (15, tasks))
    whole[0] = np.abs(whole[0])  # a p-value near 0
    alone = [sign_flip([Fraction(int(value), attempts) for value in row]).pvalue for row in whole]
    assert sign_flip_pvalues(whole) == pytest.approx(alone, abs=1e-12)


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_is_the_two_sided_binomial_at_one_half(b, c):
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar_exact(b, c).pvalue == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_exact(b, c).statistic == b - c
