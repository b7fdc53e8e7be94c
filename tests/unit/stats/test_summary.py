"""From outcomes to the numbers of each config."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from scipy import stats
from support.outcomes import arms, outcome

from capvec.errors import UsageError
from capvec.report.verdict import verdict
from capvec.stats.summary import summarise
from capvec.text import p_value

pytestmark = pytest.mark.unit


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


def test_a_config_with_nothing_but_errors_stays_among_the_comparisons_as_planned():
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


def test_controls_are_outside_the_comparisons_and_keep_their_own_p_value():
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
