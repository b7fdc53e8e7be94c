"""The rule that names an effect, branch by branch; that it keeps its level is in test_simulation.py."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support.outcomes import outcome

from capvec.records import Interval
from capvec.stats.effects import Effect
from capvec.stats.format_change import FormatChange
from capvec.stats.stratified import Stratum, cmh
from capvec.stats.summary import summarise
from capvec.stats.verdict import Detectable, decide

pytestmark = pytest.mark.unit

STILL = FormatChange("flat", "flat", "flat", True, "neither format nor solving changed")
TRADED = FormatChange("down", "up", "flat", True, "traded parse_fail for no_cmd: format changed, solving did not")
SEEN = Detectable(0.21, -0.20, 0.05)


def effect(low, high, pvalue=0.5, holm=None, tasks=40):
    middle = (low + high) / 2
    return Effect("x", "pass_rate", tasks, 5 * tasks, 0.4, 0.4 + middle, middle, pvalue, Interval(low, high), holm)


@pytest.mark.parametrize(
    ("measured", "form", "name", "fragment"),
    [
        (
            effect(0.05, 0.35, 0.01),
            STILL,
            "improves",
            "pass rate 0.40 → 0.60, +0.20 [+0.05, +0.35], p = 0.01",
        ),
        (effect(-0.35, -0.05, 0.01), STILL, "harms", "0.40 → 0.20, −0.20 [−0.35, −0.05]"),
        (effect(-0.10, 0.12), STILL, "no effect detected", "above 0.12 excluded"),
        (effect(-0.13, 0.10), STILL, "no effect detected", "above 0.13 excluded"),
        (effect(-0.10, 0.12), TRADED, "changes format only", "traded parse_fail for no_cmd"),
        (effect(-0.10, 0.16), STILL, "underpowered", "a rise of 0.21 or a fall of 0.20"),
        (effect(-0.16, 0.10), TRADED, "underpowered", "0.40 → 0.37, −0.03 [−0.16, +0.10]"),
    ],
)
def test_the_first_name_whose_condition_holds_is_given(measured, form, name, fragment):
    call = decide(measured, form, SEEN)
    assert call.name == name
    assert call.words.startswith(name)
    assert fragment in call.words
    assert (call.excluded is None) == (name in ("improves", "harms", "underpowered"))


def test_however_narrow_the_interval_few_tasks_exclude_nothing():
    for tasks, name in ((22, "underpowered"), (23, "no effect detected")):  # 0.85²² = 0.028, 0.85²³ = 0.024
        call = decide(effect(-0.05, 0.05, tasks=tasks), STILL, SEEN)
        assert call.name == name
        assert ("22 tasks are too few" in call.words) == (tasks == 22)
    # 1 − 0.025^(1/23) = 0.148 is X, where the interval ends at 0.05.
    assert "above 0.15 excluded" in call.words
    assert call.excluded == pytest.approx(0.1482, abs=1e-4)
    assert decide(effect(-0.05, 0.05, tasks=22), TRADED, SEEN).name == "underpowered"
    assert "too few" not in decide(effect(-0.05, 0.16, tasks=22), STILL, SEEN).words


def test_after_holm_is_what_counts():
    measured = effect(0.02, 0.38, 0.02, holm=0.06)
    assert decide(measured, STILL, SEEN).name == "underpowered"
    assert decide(replace(measured, holm=0.04), STILL, SEEN).name == "improves"
    # Controls have no such p-value: their own counts.
    assert decide(replace(measured, holm=None), STILL, SEEN).name == "improves"


def test_what_is_excluded_is_rounded_up():
    words = decide(effect(-0.10, 0.1204), STILL, SEEN).words
    assert "above 0.13 excluded" in words  # effects of 0.1203 are not: the interval holds them


def test_the_margin_decides_what_counts_as_excluded():
    measured = effect(-0.10, 0.12)
    assert decide(measured, STILL, SEEN, equivalence_margin=0.11).name == "underpowered"
    assert decide(measured, STILL, SEEN, equivalence_margin=0.12).excluded == 0.12


def test_solving_that_moved_a_little_is_not_said_to_have_stood_still():
    call = decide(effect(0.01, 0.11, pvalue=0.06), TRADED, SEEN)
    assert call.name == "changes format only"
    assert "above 0.11 excluded" in call.words
    assert "solving did not" not in call.words


def test_an_underpowered_form_change_is_reported_but_not_called_only_form():
    words = decide(effect(-0.4, 0.4), TRADED, SEEN).words
    assert words.endswith("traded parse_fail for no_cmd")
    assert "solving did not" not in words


@pytest.mark.parametrize(
    ("seen", "tasks", "said"),
    [
        (
            Detectable(None, -0.42, 0.01),
            30,
            "a fall of 0.42 or more with power 80 %, and no rise",
        ),
        (Detectable(None, None, 0.05), 17, "a change of any size"),
        (
            Detectable(0.2, None, 0.05),
            17,
            "a rise of 0.20 or more with power 80 %, and no fall",
        ),
        (
            Detectable(0.293, -0.298, 0.05),
            49,
            "a rise of 0.29 or a fall of 0.30",
        ),
        # 2/2^6 = 0.031 is above 0.05/6.
        (Detectable(None, None, 0.05 / 6), 6, "6 tasks the smallest p is 0.031; 0.0083"),
    ],
)
def test_what_could_not_have_been_seen_is_said(seen, tasks, said):
    assert said in decide(effect(-0.5, 0.5, tasks=tasks), STILL, seen).words


def test_the_sign_of_what_rounds_to_nothing_is_kept_but_nothing_has_no_minus():
    assert "−0.00 [−0.00, +0.00]" in decide(effect(-0.004, 0.002), STILL, SEEN).words
    assert "+0.00 [−0.00, +0.00]" in decide(effect(-0.004, 0.004), STILL, SEEN).words
    assert ", −0.10 [−0.19, −0.00], " in decide(effect(-0.1932, -0.0046, 0.06), STILL, SEEN).words


def test_a_loss_of_everything_on_six_tasks_is_reported_of_these_tasks():
    lost = cmh([Stratum(0, 3, 3, 3)] * 6)
    words = decide(effect(-1.0, -0.1, 0.06, tasks=6), STILL, Detectable(None, None, 0.01), stratified=lost).words
    assert "fell (exact CMH p = " in words


def test_an_effect_on_something_else_has_no_call():
    with pytest.raises(ValueError, match="steps has no verdict"):
        decide(replace(effect(0, 0), metric="steps", interval=None), STILL, SEEN)


def test_from_trials_a_change_of_form_at_equal_solving_is_called_that():
    # 60 tasks, 2 attempts; the same ones solved, and no_cmd 0 → 1 in every steered trial.
    trials = [
        outcome(name, f"t{task:02}", "solved" if task % 2 else "unsolved", attempt=k, no_cmd=int(name == "x"))
        for name in ("baseline", "x")
        for task in range(60)
        for k in (1, 2)
    ]
    row = summarise(trials, ["baseline", "x"]).configs[1]
    assert row.verdict.name == "changes format only"
    assert row.verdict.words.startswith("changes format only: more no_cmd")
    # Half the trials pass on both sides, clean or not: composition at equal rates is nothing.
    assert row.mediation.difference == row.mediation.remainder == 0
