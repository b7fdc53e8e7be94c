"""Intervals, Fisher's test, the paired tests, and the summary that they make up."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from support.outcomes import arms, outcome

from capvec.errors import UsageError
from capvec.records import Interval
from capvec.report.verdict import verdict
from capvec.stats.intervals import clopper_pearson, clustered, reach, unseen_share, wilson
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import mcnemar_exact, sign_flip, sign_flip_pvalues
from capvec.stats.pooled import fisher_exact
from capvec.stats.stratified import Stratum, cmh
from capvec.stats.summary import summarise
from capvec.text import p_value

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


def test_many_sign_flip_tests_at_once_are_each_the_one_alone():
    whole = np.random.default_rng(0).integers(-5, 6, (40, 9))
    alone = [sign_flip([value / 5 for value in row]).pvalue for row in whole]
    assert sign_flip_pvalues(whole) == pytest.approx(alone, abs=1e-12)
    assert sign_flip_pvalues(np.zeros((2, 3), dtype=np.int64)).tolist() == [1.0, 1.0]


# ------------------------------------------------------------------------------------------------ strata and families


def test_one_stratum_is_fishers_test():
    result = cmh([Stratum(3, 4, 1, 4)])
    assert result.pvalue == pytest.approx(34 / 70)
    assert result.odds_ratio == pytest.approx(9)


def test_tasks_that_all_trials_solve_or_none_tell_nothing():
    told = [Stratum(3, 5, 1, 5), Stratum(4, 5, 2, 5)]
    with_silent = cmh([*told, Stratum(5, 5, 5, 5), Stratum(0, 5, 0, 4)])
    assert with_silent.pvalue == pytest.approx(cmh(told).pvalue)
    assert (with_silent.statistic, with_silent.informative) == (pytest.approx(cmh(told).statistic), 2)
    silent = cmh([Stratum(5, 5, 5, 5)])
    assert (silent.pvalue, silent.pvalue_asymptotic, math.isnan(silent.odds_ratio)) == (1.0, 1.0, True)


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_rejects_what_its_step_down_rule_rejects(pvalues):
    adjusted = holm(pvalues)
    # Step by step: the smallest against 0.05/m, the next against 0.05/(m − 1), until one fails.
    rejected, order = set(), sorted(range(len(pvalues)), key=pvalues.__getitem__)
    for step, index in enumerate(order):
        if pvalues[index] * (len(pvalues) - step) >= 0.05:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(adjusted) if p < 0.05} == rejected
    assert all(p <= q <= 1 for p, q in zip(pvalues, adjusted, strict=True))


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="expected each from 0 to 1"):
        holm([0.1, 1.2])


# ------------------------------------------------------------------------------------------------ clustered


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


@given(st.integers(0, 12), st.integers(0, 12))
def test_mcnemar_is_the_two_sided_binomial_at_one_half(b, c):
    n = b + c
    tail = sum(math.comb(n, k) for k in range(min(b, c) + 1)) / 2**n
    assert mcnemar_exact(b, c).pvalue == pytest.approx(min(1.0, 2 * tail))
    assert mcnemar_exact(b, c).statistic == b - c


# ------------------------------------------------------------------------------------------------ summary


@pytest.mark.parametrize(
    "table", [{"baseline": (2, 6), "a4": (2, 6), "b4": (1, 6)}, {"baseline": (1, 5), "a4": (1, 5), "a2": (0, 5)}]
)
def test_with_the_seed_studys_counts_every_fisher_p_exceeds_one_half(table):
    summary = summarise(arms(**table), list(table))
    others = [row for row in summary.configs if row.config != "baseline"]
    assert all(row.fisher.pvalue > 0.5 for row in others)
    assert [(row.solved, row.n) for row in summary.configs] == list(table.values())


def test_pooled_tests_compare_a_config_with_the_baseline_on_the_tasks_that_both_ran():
    # The baseline also ran eight tasks that are never solved; on x's own eight both solve all. Pooled over everything
    # x would have 8/8 against 8/16, Fisher p = 0.02; over what both ran, 8/8 against 8/8, p = 1.
    hard = [outcome("baseline", f"hard{index}") for index in range(8)]
    row = summarise([*arms(baseline=(8, 8), x=(8, 8)), *hard], ["baseline", "x"]).configs[1]
    assert stats.fisher_exact([[8, 8], [0, 8]]).pvalue < 0.03
    assert row.fisher.pvalue == 1.0
    apart = summarise([*arms(x=(8, 8)), *hard], ["baseline", "x"]).configs[1]
    assert (apart.n, apart.fisher) == (8, None)


def test_errors_are_counted_and_enter_nothing_else():
    clean = arms(baseline=(2, 4), steered=(1, 4))
    faulty = [*clean, outcome("steered", "task0", "error", attempt=2, steps=99, parse_fail=99, end_reason="error")]
    before, after = (summarise(outcomes, ["baseline", "steered"]).configs[1] for outcomes in (clean, faulty))
    # Only the readings that count them see them: task0 is solved in 1 of 2 or in 2 of 2, where the baseline solves it.
    assert after == replace(before, errors=1, sensitivity=after.sensitivity)
    excluded, against, favour, strict = (reading.effect.difference for reading in after.sensitivity)
    assert (excluded, against, favour, strict) == (-1 / 4, -3 / 8, -1 / 4, -1 / 4)


def test_a_config_that_only_erred_has_the_readings_that_count_errors_and_nothing_else():
    outcomes = [
        replace(one, outcome="error") if one.config == "x" else one for one in arms(baseline=(5, 20), x=(0, 20))
    ]
    summary = summarise(outcomes, ["baseline", "x"])
    row = summary.configs[1]
    assert row.effect is row.verdict is row.fisher is None
    # Fifteen tasks rise or five fall: of the sign patterns two are as far out.
    assert [(one.reading, one.effect.difference, one.effect.holm) for one in row.sensitivity] == [
        ("errors count against the config", -0.25, 2 / 2**5),
        ("errors count for the config", 0.75, 2 / 2**15),
    ]
    assert summary.configs[0].sensitivity == ()


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


def test_a_config_with_nothing_but_errors_stays_in_the_family_as_planned():
    outcomes = [
        replace(one, outcome="error") if one.config == "b" else one
        for one in arms(baseline=(0, 20), a=(6, 20), b=(6, 20))
    ]
    summary = summarise(outcomes, ["baseline", "a", "b"])
    assert summary.comparisons == ("a", "b")
    assert summary.uncompared == ("b",)
    # Six of 20 tasks rise: p = 2/2^6, one of the two that were planned.
    assert summary.configs[1].effect.holm == 2 * 2 / 2**6
    assert summary.configs[1].verdict.detectable.level == 0.05 / 2
    assert summary.secondary_comparisons[3:] == ("b: parse_fail", "b: no_cmd", "b: steps")
    assert summary.configs[2].verdict is None


def test_controls_are_outside_the_family_and_keep_their_own_p_value():
    names = {"baseline": (0, 8), "a": (8, 8), "b": (0, 8), "random1": (8, 8)}
    summary = summarise(arms(**names), list(names), comparisons=["a", "b"])
    by_name = {row.config: row for row in summary.configs}
    assert summary.comparisons == ("a", "b")
    # All 8 tasks rise: 2 of 2^8 patterns; the smaller of two p-values counts twice.
    assert by_name["a"].effect.pvalue == by_name["random1"].effect.pvalue == 2 / 2**8
    assert by_name["a"].effect.holm == 4 / 2**8
    assert by_name["random1"].effect.holm is None
    assert by_name["random1"].verdict.pvalue == 2 / 2**8
    assert summary.secondary_comparisons == tuple(
        f"{n}: {m}" for n in ("a", "b") for m in ("parse_fail", "no_cmd", "steps")
    )


def test_replies_and_end_reasons_are_counted_over_valid_trials():
    outcomes = [
        outcome("baseline", "a", "solved", steps=4, parse_fail=1, repaired=2),
        replace(outcome("baseline", "b", steps=6, no_cmd=3), end_reason="max_steps"),
        outcome("baseline", "c", "error", steps=9, parse_fail=9, end_reason="error"),
    ]
    row = summarise(outcomes, ["baseline"]).configs[0]
    assert (row.replies, row.parse_fail_per_reply, row.repaired_per_reply, row.no_cmd_per_reply) == (10, 0.1, 0.2, 0.3)
    assert row.end_reasons == {"done": 1, "max_steps": 1}


def test_an_unknown_config_is_refused():
    with pytest.raises(UsageError, match="unknown configs"):
        summarise([outcome("other", "a")], ["baseline"])


@pytest.mark.parametrize(
    ("counts", "said"),
    [
        ({}, "Nothing to compare: "),
        ({"a": (3, 9)}, "underpowered: a."),
        ({"a": (0, 9)}, "harms: a."),
        # 9 tasks that all fall: 2/2^9, times 3 after Holm.
        ({"a": (9, 9), "b": (0, 9), "c": (6, 9)}, "underpowered: a, c; harms: b."),
    ],
)
def test_the_verdict_puts_alike_calls_together(counts, said):
    base = {"baseline": (8, 9)}
    assert verdict(summarise(arms(**base, **counts), [*base, *counts])).startswith(said)


def test_controls_are_not_in_the_verdict():
    table = {"baseline": (0, 9), "a": (0, 9), "random1": (9, 9)}
    summary = summarise(arms(**table), list(table), comparisons=["a"])
    assert "random1" not in verdict(summary)
    assert summary.configs[2].verdict.name == "improves"


@pytest.mark.parametrize(("value", "text"), [(None, "–"), (0.0004, "<0.001"), (0.001, "0.001"), (0.1816, "0.182")])
def test_a_small_p_value_is_not_shown_as_zero(value, text):
    assert p_value(value) == text
