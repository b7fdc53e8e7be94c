"""Did solving change, or only the format: the decomposition, and the trade-off in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.stats.effects import Effect, by_task, paired_effect
from capvec.stats.format_change import format_change, name_change
from capvec.stats.mediation import decompose

pytestmark = pytest.mark.unit

ROUNDED = 1e-11
"""Effects are rounded to twelve decimals, and here sums and differences of them are compared."""
trial = st.tuples(
    st.integers(0, 3), st.sampled_from(["solved", "unsolved", "error"]), st.integers(0, 2), st.integers(0, 2)
)


def split(outcomes, base):
    return decompose(*(by_task(one for one in side if one.outcome != "error") for side in (outcomes, base)))


def arm(name, trials):
    return [
        outcome(name, f"t{task}", status, attempt=k, parse_fail=parse_fail, no_cmd=no_cmd)
        for k, (task, status, parse_fail, no_cmd) in enumerate(trials)
    ]


@settings(max_examples=60)
@given(st.lists(trial, min_size=1, max_size=10), st.lists(trial, min_size=1, max_size=10))
def test_the_terms_add_up_to_the_difference_of_the_headline(ours, theirs):
    config, base = arm("x", ours), arm("baseline", theirs)
    found, effect = split(config, base), paired_effect([*config, *base], "x", "pass_rate")
    if effect is None:
        assert found is None
        return
    terms = found.through_parse_fail + found.through_no_cmd + found.remainder
    assert found.difference == pytest.approx(effect.difference, abs=ROUNDED)
    assert terms == pytest.approx(found.difference, abs=ROUNDED)
    assert sum(row.composition + row.within for row in found.categories) == pytest.approx(found.difference, abs=ROUNDED)


@given(st.lists(trial, min_size=1, max_size=8), st.lists(trial, min_size=1, max_size=8))
@settings(max_examples=40)
def test_swapping_the_sides_turns_every_term(ours, theirs):
    one, other = split(arm("x", ours), arm("b", theirs)), split(arm("b", theirs), arm("x", ours))
    if one is not None:
        for name in ("difference", "through_parse_fail", "through_no_cmd", "remainder"):
            assert getattr(one, name) == pytest.approx(-getattr(other, name), abs=ROUNDED)


def test_mending_the_format_alone_runs_through_parse_fail():
    # Baseline: 2 clean trials, both solved; 2 with parse failures, none solved. Steered: all clean, all solved.
    base = arm("baseline", [(0, "solved", 0, 0), (1, "solved", 0, 0), (2, "unsolved", 1, 0), (3, "unsolved", 2, 0)])
    found = split(arm("x", [(task, "solved", 0, 0) for task in range(4)]), base)
    # Δw = −1/2 at a rate of 0 against 1 among clean trials.
    assert (found.through_parse_fail, found.through_no_cmd, found.remainder) == (0.5, 0.0, 0.0)


def test_solving_more_at_the_same_form_is_what_remains():
    base = arm("baseline", [(0, "solved", 0, 0), (1, "unsolved", 0, 0), (2, "unsolved", 0, 1), (3, "unsolved", 0, 1)])
    config = arm("x", [(0, "solved", 0, 0), (1, "solved", 0, 0), (2, "unsolved", 0, 1), (3, "unsolved", 0, 1)])
    # Half the trials are clean on both sides, and pass 1 of 2, then 2 of 2.
    assert split(config, base).remainder == 0.25
    assert ", +0.25 " in split(config, base).words
    assert split(config, base).difference == 0.25


@pytest.mark.parametrize(
    ("base_fault", "fault", "because"),
    [
        (1, 0, "the baseline has no trial in which every reply acted or said it was done"),
        (0, 1, "the config has no trial in which every reply acted or said it was done"),
        (1, 1, "the baseline and the config have no trial in which every reply acted or said it was done"),
    ],
)
def test_without_clean_trials_on_both_sides_there_is_no_split(base_fault, fault, because):
    base = arm("baseline", [(0, "unsolved", base_fault, 0), (1, "unsolved", base_fault, 0)])
    found = split(arm("x", [(0, "solved", fault, 0), (1, "unsolved", fault, 0)]), base)
    assert found.words.endswith(because)
    assert "through parse_fail" not in found.words


def test_a_difference_is_rounded_to_the_same_number_wherever_it_stands():
    # Eight tasks, three attempts: 6/24 → 21/24. Sums of 24ths are off by 3e-16, and 15/24 = 0.625, a tie of rounding,
    # prints as +0.62 or as +0.63 by which side of it they fall on.
    base = [(task, "solved" if task < 2 else "unsolved", int(task > 3), 0) for task in range(8) for _ in range(3)]
    ours = [(task, "solved" if task < 7 else "unsolved", 0, 0) for task in range(8) for _ in range(3)]
    config, baseline = arm("x", ours), arm("baseline", base)
    headline, found = paired_effect([*config, *baseline], "x", "pass_rate"), split(config, baseline)
    assert headline.difference == found.difference == 0.625
    assert f"{headline.difference:+.2f}" == found.words.partition(" = ")[0] == "+0.62"


# ------------------------------------------------------------------------------------------------ in words


@pytest.mark.parametrize(
    ("moves", "name"),
    [
        (("up", "down", "flat"), "traded no_cmd for parse_fail: format changed, solving did not"),
        (("up", "flat", "down"), "more parse_fail: format changed, and solving fell"),
        (("flat", "flat", "up"), "format did not change, solving rose"),
        (("flat", "flat", "flat"), "neither format nor solving changed"),
    ],
)
def test_every_combination_has_a_name(moves, name):
    assert name_change(*moves) == name


def test_with_trials_a_move_is_a_p_value_after_holm():
    def effect(metric, difference, pvalue, holm):
        return Effect("x", metric, 9, 9, 0.0, difference, difference, pvalue, None, holm)

    parse_fail, no_cmd = effect("parse_fail", -1.0, 0.01, 0.03), effect("no_cmd", 0.5, 0.03, 0.06)
    found = format_change(effect("pass_rate", 0.1, 0.5, 0.5), parse_fail, no_cmd)
    assert (found.parse_fail, found.no_cmd, found.pass_rate, found.tested) == ("down", "flat", "flat", True)
