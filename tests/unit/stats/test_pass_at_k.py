"""pass@k against brute force in exact fractions, and the coverage of its intervals."""

from __future__ import annotations

from collections import Counter
from fractions import Fraction
from itertools import combinations
from math import comb

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats
from support.outcomes import outcome

from capvec.records import Interval
from capvec.stats.intervals import clustered, wilson
from capvec.stats.pass_at_k import pass_at_k, summarise_pass_at_k
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit

attempts = st.lists(st.booleans(), min_size=1, max_size=8)


def arm(config, *tasks):
    """Each task's trials: `1` for a solved one, `0` for an unsolved one, `e` for an error."""
    words = {"1": "solved", "0": "unsolved", "e": "error"}
    return [
        outcome(config, f"t{k}", words[letter], attempt)
        for k, letters in enumerate(tasks)
        for attempt, letter in enumerate(letters, start=1)
    ]


def estimates(*arms):
    groups = {one[0].config: one for one in arms}
    return {one.config: one.by_k for one in summarise_pass_at_k(groups, dict.fromkeys(groups, arms[0]), "baseline")}


@given(attempts, st.data())
def test_it_is_the_share_of_the_choices_of_k_attempts_that_hold_a_solved_one(solved, data):
    k = data.draw(st.integers(1, len(solved)))
    chosen = list(combinations(solved, k))
    assert pass_at_k(len(solved), sum(solved), k) == Fraction(sum(map(any, chosen)), len(chosen))


@given(st.integers(1, 8), st.fractions(0, 1, max_denominator=20), st.data())
def test_its_expectation_is_pass_at_k_itself(n, rate, data):
    k = data.draw(st.integers(1, n))
    expected = sum(comb(n, c) * rate**c * (1 - rate) ** (n - c) * pass_at_k(n, c, k) for c in range(n + 1))
    assert expected == 1 - (1 - rate) ** k


@pytest.mark.parametrize(("n", "solved", "k"), [(3, 1, 0), (3, 1, 4), (3, 4, 1), (3, -1, 1), (0, 0, 1)])
def test_numbers_that_no_attempts_give_are_refused(n, solved, k):
    with pytest.raises(ValueError, match=f"pass@{k} from {solved} of {n} attempts: expected k from 1 to n"):
        pass_at_k(n, solved, k)


@given(st.lists(st.text("01e", min_size=1, max_size=5), min_size=1, max_size=5), st.data())
def test_a_config_has_the_mean_over_its_tasks_with_at_least_k_valid_trials(tasks, data):
    others = data.draw(st.lists(st.text("01e", min_size=1, max_size=5), min_size=len(tasks), max_size=len(tasks)))
    found = estimates(arm("baseline", *others), arm("x", *tasks))

    def by_hand(k, letters):
        valid = [letter == "1" for letter in letters if letter != "e"]
        chosen = list(combinations(valid, k))
        return Fraction(sum(map(any, chosen)), len(chosen)) if chosen else None

    most = max(len(letters.replace("e", "")) for letters in [*tasks, *others])
    assert bool(found) == (most > 1)
    for row in found.get("x", ()):
        values, base = ([by_hand(row.k, letters) for letters in side] for side in (tasks, others))
        known = [value for value in values if value is not None]
        assert (row.tasks, row.estimate) == (len(known), pytest.approx(float(sum(known) / len(known))))
        both = [a - b for a, b in zip(values, base, strict=True) if a is not None and b is not None]
        assert row.shared == len(both)
        if both:
            assert row.difference == pytest.approx(float(sum(both) / len(both)))
            assert row.difference_interval == clustered(list(map(float, both)), 1)
        else:
            assert row.difference is row.difference_interval is None
    for row in found.get("baseline", ()):
        assert (row.shared, row.difference, row.difference_interval) == (0, None, None)


def test_more_attempts_at_the_same_tasks_do_not_narrow_the_interval_as_more_tasks_do():
    few, many, wide = (estimates(arm("baseline", *tasks))["baseline"][0] for tasks in (
        ["11", "00"] * 3, ["1" * 40, "0" * 40] * 3, ["11", "00"] * 60,
    ))  # fmt: skip
    for found, solved, tasks in ((few, 3, 6), (many, 3, 6), (wide, 60, 120)):
        expected = wilson(solved, tasks)
        assert (found.interval.low, found.interval.high) == pytest.approx((expected.low, expected.high))
    one = estimates(arm("baseline", "11"), arm("x", "00"))["x"][1]
    assert one.difference_interval == Interval(-1.0, 1.0)  # a single task says nothing of others


def test_the_summary_has_it_where_a_task_has_several_attempts_and_nowhere_else():
    trials = [*arm("baseline", "10", "00"), *arm("x", "11", "0e")]
    data = summarise(trials, ["baseline", "x"]).to_json()
    assert [[one["k"] for one in row["by_k"]] for row in data["pass_at_k"]] == [[1, 2], [1, 2]]
    assert [row["estimate"] for row in data["pass_at_k"][0]["by_k"]] == [0.25, 0.5]
    # Of x the second task has one valid trial, so pass@2 is of the first alone.
    assert [(row["tasks"], row["estimate"]) for row in data["pass_at_k"][1]["by_k"]] == [(2, 0.5), (1, 1.0)]
    assert "pass_at_k" not in summarise([*arm("baseline", "1", "0"), *arm("x", "1", "1")], ["baseline", "x"]).to_json()


@pytest.mark.parametrize("spread", [0.0, 3.0])
@pytest.mark.parametrize("tasks", [6, 30])
def test_intervals_cover_pass_at_k_of_tasks_like_these(tasks, spread):
    # Rates of tasks have a logit SD `spread`, about a rate of 0.2; five attempts each. Where tasks are alike, a task's
    # estimate spreads less than zeros and ones do, so the interval covers more often; where they differ, Wilson's own
    # coverage of a share is met, which dips below 95 % for few observations, but not below 90 % at these rates.
    rng, draws = np.random.default_rng(tasks), 200

    def rates(size):
        return 1 / (1 + np.exp(-(np.log(0.25) + spread * rng.standard_normal(size))))

    population = rates(400_000)
    truth = {k: (1 - (1 - population) ** k).mean() for k in (1, 2, 5)}
    covered, zero_covered = Counter(), Counter()
    for counts in zip(*(rng.binomial(5, rates((draws, tasks))) for _ in range(2)), strict=True):
        arms = [
            arm(name, *("1" * c + "0" * (5 - c) for c in solved))
            for name, solved in zip(("baseline", "x"), counts, strict=True)
        ]
        for found in estimates(*arms)["x"]:
            if found.k in truth:
                covered[found.k] += found.interval.low <= truth[found.k] <= found.interval.high
                zero_covered[found.k] += found.difference_interval.low <= 0 <= found.difference_interval.high
    for k in truth:
        # Below these bounds with a chance of 1e-4 at a coverage of 93 % and of 95 %.
        assert covered[k] >= stats.binom.ppf(1e-4, draws, 0.93)
        assert zero_covered[k] >= stats.binom.ppf(1e-4, draws, 0.95)
