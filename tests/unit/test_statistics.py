"""Intervals, Fisher's test, the paired tests, and the summary that they make up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from capvec.errors import UsageError
from capvec.records import Outcome
from capvec.report.table import p_value, verdict
from capvec.stats.intervals import clopper_pearson, wilson
from capvec.stats.pairing import mcnemar_exact, sign_flip
from capvec.stats.pooled import fisher_exact
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit

counts = st.integers(1, 30).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))


# ------------------------------------------------------------------------------------------------ intervals


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


# ------------------------------------------------------------------------------------------------ Fisher


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


def test_fishers_tea():
    # Fisher 1935, chapter II: 3 of 4 cups right, one-sided 17/70, two-sided 34/70.
    assert fisher_exact(3, 4, 1, 4).pvalue == pytest.approx(34 / 70)


def test_impossible_tables_are_refused():
    with pytest.raises(ValueError, match="5 of 4 against 0 of 4"):
        fisher_exact(5, 4, 0, 4)


# ------------------------------------------------------------------------------------------------ paired tests


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


def test_many_tasks_are_drawn_with_the_same_result_every_time_and_never_zero():
    result = sign_flip([1.0] * 40)
    assert result == sign_flip([1.0] * 40)
    assert 0 < result.pvalue < 1e-3


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_is_the_two_sided_binomial_at_one_half(b, c):
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar_exact(b, c).pvalue == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_exact(b, c).statistic == b - c


# ------------------------------------------------------------------------------------------------ summary


def outcome(config, task, status="unsolved", attempt=1, **changes):
    base = Outcome("r", f"{task}-{config}-t{attempt}", task, config, None, None, attempt, 0, status, end_reason="done")
    return replace(base, **changes)


def arms(**solved_of):
    """`name=(solved, n)`: one trial a task, the first ones solved."""
    return [
        outcome(name, f"task{index}", "solved" if index < solved else "unsolved")
        for name, (solved, n) in solved_of.items()
        for index in range(n)
    ]


@pytest.mark.parametrize(
    "table", [{"baseline": (2, 6), "a4": (2, 6), "b4": (1, 6)}, {"baseline": (1, 5), "a4": (1, 5), "a2": (0, 5)}]
)
def test_with_the_seed_studys_counts_every_fisher_p_exceeds_one_half(table):
    summary = summarise(arms(**table), list(table))
    others = [row for row in summary.configs if row.config != "baseline"]
    assert all(row.fisher.pvalue > 0.5 for row in others)
    assert [(row.solved, row.n) for row in summary.configs] == list(table.values())


def test_errors_are_counted_and_enter_nothing_else():
    clean = arms(baseline=(2, 4), steered=(1, 4))
    faulty = [*clean, outcome("steered", "task0", "error", attempt=2, steps=99, parse_fail=99, end_reason="error")]
    before, after = (summarise(outcomes, ["baseline", "steered"]).configs[1] for outcomes in (clean, faulty))
    assert after == replace(before, errors=1)


def test_rates_and_counts_per_run_are_means_over_valid_trials():
    outcomes = [outcome("baseline", "a", "solved", steps=2, parse_fail=1), outcome("baseline", "b", steps=5, no_cmd=3)]
    row = summarise(outcomes, ["baseline"]).configs[0]
    assert (row.pass_rate, row.mean_steps, row.parse_fail_per_run, row.no_cmd_per_run) == (0.5, 3.5, 0.5, 1.5)
    assert row.fisher is row.sign_flip is row.mcnemar is None


def test_pairs_are_matched_by_task_and_attempt_where_both_are_valid():
    outcomes = [
        outcome("baseline", "a", "unsolved", 1), outcome("steered", "a", "solved", 1),
        outcome("baseline", "a", "solved", 2), outcome("steered", "a", "solved", 2),
        outcome("baseline", "b", "error", 1), outcome("steered", "b", "solved", 1),
    ]  # fmt: skip
    row = summarise(outcomes, ["baseline", "steered"]).configs[1]
    # Pairs: (a,1) only the config, (a,2) both; (b,1) has no valid baseline. Task a: 2/2 against 1/2.
    assert row.mcnemar.statistic == 1
    assert row.sign_flip.statistic == pytest.approx(0.5)


def test_a_config_without_a_valid_trial_has_no_rate_and_no_test():
    summary = summarise([outcome("baseline", "a", "solved"), outcome("steered", "a", "error")], ["baseline", "steered"])
    row = summary.configs[1]
    assert (row.n, row.errors, row.pass_rate, row.wilson, row.fisher, row.sign_flip) == (0, 1, None, None, None, None)


@pytest.mark.parametrize("table", [{"baseline": (0, 3), "x": (3, 3)}, {"baseline": (0, 3), "x": (0, 3)}])
def test_degenerate_tables_still_make_strict_json(table):
    data = summarise(arms(**table), list(table)).to_json()
    text = json.dumps(data, allow_nan=False)
    assert json.loads(text)["configs"][1]["fisher"]["statistic"] in ("inf", None)


def test_an_unknown_config_is_refused():
    with pytest.raises(UsageError, match="unknown configs"):
        summarise([outcome("other", "a")], ["baseline"])


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "Nothing to compare: no config beside the baseline has a valid trial."),
        ({"a": (3, 9)}, "No config differs from baseline: every Fisher p ≥ 0.637. That is no proof"),
        ({"a": (0, 9)}, "a solves less than baseline: Fisher p = 0.0294."),
        (
            {"a": (9, 9), "b": (0, 9), "c": (5, 9)},
            "b solves less than baseline: Fisher p = 0.0294, the smallest of 3; 1 is",
        ),
    ],
)
def test_the_verdict_says_which_way_and_among_how_many(counts, said):
    base = {"baseline": (5, 9)}
    assert verdict(summarise(arms(**base, **counts), [*base, *counts])).startswith(said)


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.0004, "<0.001"), (0.001, "0.001"), (0.1816, "0.182")])
def test_a_small_p_value_is_not_shown_as_zero(value, text):
    assert p_value(value) == text
