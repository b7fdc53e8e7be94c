"""Intervals of a proportion, and of a difference measured task by task."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capvec.records import Interval
from capvec.stats.intervals import clopper_pearson, clustered, reach, unseen_share, wilson

pytestmark = pytest.mark.unit

counts = st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


@given(counts)
def test_wilson_ends_where_the_score_test_rejects(count):
    k, n = count
    z = stats.norm.ppf(0.975)
    for p in (wilson(k, n).low, wilson(k, n).high):
        if 0 < p < 1:
            # The score statistic at the ends of the interval is exactly the critical value.
            assert abs(k / n - p) / math.sqrt(p * (1 - p) / n) == pytest.approx(z, rel=1e-6)


@given(counts)
def test_clopper_pearson_ends_where_the_binomial_tails_are_2_5_percent(count):
    k, n = count
    interval = clopper_pearson(k, n)
    if k > 0:
        assert stats.binom.sf(k - 1, n, interval.low) == pytest.approx(0.025, rel=1e-6)
    if k < n:
        assert stats.binom.cdf(k, n, interval.high) == pytest.approx(0.025, rel=1e-6)


def test_no_success_in_17_still_has_a_width():
    # 1 − 0.025^(1/17): the upper end at k = 0 solves (1 − p)^n = 0.025.
    assert clopper_pearson(0, 17).low == 0
    assert clopper_pearson(0, 17).high == pytest.approx(1 - 0.025 ** (1 / 17))


@pytest.mark.parametrize(("k", "n"), [(0, 0), (-1, 3), (4, 3)])
@pytest.mark.parametrize("interval", [wilson, clopper_pearson])
def test_impossible_counts_have_no_interval(interval, k, n):
    with pytest.raises(ValueError, match=f"{k} successes in {n} trials"):
        interval(k, n)


@pytest.mark.parametrize(("tasks", "attempts"), [(6, 1), (6, 20), (17, 100), (68, 2)])
def test_where_no_task_moved_the_interval_is_that_of_a_share_never_seen_whatever_the_attempts(tasks, attempts):
    interval = clustered([0.0] * tasks, attempts)
    assert interval.high == pytest.approx(clopper_pearson(0, tasks).high)
    assert interval.low == -interval.high


def test_tasks_that_stood_still_leave_room_for_what_none_showed_and_tasks_that_moved_do_not():
    # One of 17 moved: 1 − 0.025^(1/17) = 0.1951, times 16/17 is 0.1836; 0.8164/17 + 0.1836 = 0.2316. The t interval
    # ends sooner: 16/17 + (1/17)/20 = 0.944 for 1/k, so at 1/19 + 2.1199·√((1.944/19 − 1/19²)/18) = 0.210.
    assert clustered([1.0] + [0.0] * 16, 20).high == pytest.approx(0.2316, abs=1e-4)
    moved = [0.05, -0.05] * 8 + [0.05]
    interval = clustered(moved, 20)
    assert (interval.low, interval.high) == pytest.approx(padded_t(moved, 20))


def test_a_task_that_stood_still_counts_as_one_pair_however_often_it_was_tried():
    # Half up or down by 0.6, half still, 10 attempts: ½·1 + ½/10 = 0.55 for 1/k, and 0.6²·20 + 0.55 = 7.75 over 42
    # tasks. ± 2.0227·√(7.75/42/41) = 0.1357, beyond the 0.5·(1 − 0.025^(1/40)) = 0.044 never seen.
    interval = clustered([0.6, -0.6, 0.0, 0.0] * 10, 10)
    assert (interval.low, interval.high) == pytest.approx((-0.1357, 0.1357), abs=1e-4)


def test_nothing_is_excluded_below_a_share_of_tasks_that_so_few_may_miss():
    # A share of 0.15 is missed by 22 tasks with probability 0.85²² = 0.028, by 23 with 0.024.
    assert reach(Interval(-0.01, 0.02), 23) < 0.15 < reach(Interval(-0.01, 0.02), 22)
    assert reach(Interval(-0.3, 0.2), 23) == 0.3


@given(st.integers(1, 200), st.sampled_from([0.9, 0.95, 0.99]))
def test_the_unseen_share_is_clopper_and_pearsons_upper_end_for_none(tasks, level):
    assert unseen_share(tasks, level) == pytest.approx(clopper_pearson(0, tasks, level).high)


def padded_t(differences, attempts):
    """Student's t on the differences and two tasks more, at ± √(1/(2k)), with the freedom of the tasks that are."""
    pseudo = math.sqrt(1 / (2 * attempts))
    padded = np.array([*differences, pseudo, -pseudo])
    half = stats.t.ppf(0.975, len(differences) - 1) * stats.sem(padded)
    return padded.mean() - half, padded.mean() + half


def test_one_task_says_nothing_about_others():
    assert (clustered([1.0], 5).low, clustered([1.0], 5).high) == (-1, 1)


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20))
def test_the_interval_turns_with_the_differences_and_stays_in_range(whole):
    differences = [value / 5 for value in whole]
    interval, turned = clustered(differences, 5), clustered([-value for value in differences], 5)
    assert -1 <= interval.low <= np.mean(differences) + 1e-12
    assert np.mean(differences) - 1e-12 <= interval.high <= 1
    assert (interval.low, interval.high) == pytest.approx((-turned.high, -turned.low))


@given(st.lists(st.integers(-5, 5), min_size=2, max_size=20), st.integers(1, 20), st.integers(1, 20))
def test_the_interval_holds_the_t_interval_and_narrows_with_attempts(whole, attempts, more):
    differences = [value / 5 for value in whole]
    low, high = padded_t(differences, attempts)
    interval, later = clustered(differences, attempts), clustered(differences, attempts + more)
    assert interval.low <= max(-1, low) + 1e-12
    assert interval.high >= min(1, high) - 1e-12
    assert interval.low <= later.low + 1e-12
    assert later.high <= interval.high + 1e-12
