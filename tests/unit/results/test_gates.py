"""Gates: what they demand, and what they say."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from support.outcomes import arms, outcome

from capvec.errors import UsageError
from capvec.records import Config
from capvec.results.gates import check_gate, check_names, split_gate
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit


def judged(expression, outcomes, names=("baseline", "x")):
    return [gate.met for gate in check_gate(expression, summarise(outcomes, list(names)), tasks=8)]


def test_improving_takes_the_verdict_of_that_name():
    # 0/8 against 8/8 on eight tasks: the sign-flip p is 2/2⁸ ≈ 0.008; 3/8 against 4/8 is nothing.
    assert judged("improves(x)", arms(baseline=(0, 8), x=(8, 8))) == [True]
    assert judged("improves(x)", arms(baseline=(8, 8), x=(0, 8))) == [False]
    assert judged("improves(x)", arms(baseline=(3, 8), x=(4, 8))) == [False]


def test_no_harm_allows_a_loss_up_to_its_bound():
    assert judged("no_harm(0.25)", arms(baseline=(4, 8), x=(2, 8))) == [True]
    assert judged("no_harm(0.2)", arms(baseline=(4, 8), x=(2, 8))) == [False]


def test_a_loss_of_exactly_the_bound_is_no_harm():
    # 4/5 − 3/5 is 0.2 on paper and 0.20000000000000007 in floating point.
    assert judged("no_harm(0.2)", arms(baseline=(4, 5), x=(3, 5))) == [True]
    assert judged("no_harm(.19)", arms(baseline=(4, 5), x=(3, 5))) == [False]


def test_counts_per_run_are_compared_with_the_baseline():
    outcomes = [outcome("baseline", "a", parse_fail=2), outcome("x", "a", parse_fail=2, no_cmd=1)]
    assert judged("parse_fail<=baseline, no_cmd <= baseline and steps<=baseline", outcomes) == [True, False, True]


def on(config, tasks, status, **changes):
    return [outcome(config, task, status, **changes) for task in tasks]


def test_a_config_is_not_held_against_the_baseline_on_tasks_that_it_never_saw():
    # Shards over other tasks: the easy ones, where every trial is solved in one step, and the hard ones, where none is.
    # Each config is the baseline's equal on its own; against all 16 of the baseline `y` would lose a half.
    easy, hard = [f"easy{n}" for n in range(8)], [f"hard{n}" for n in range(8)]
    outcomes = [
        *on("baseline", easy, "solved", steps=1), *on("x", easy, "solved", steps=1),
        *on("baseline", hard, "unsolved", steps=20), *on("y", hard, "unsolved", steps=20),
    ]  # fmt: skip
    expression = "no_harm(0.1), steps<=baseline"
    assert judged(expression, outcomes, ("baseline", "x", "y")) == [True, True]
    worse = [replace(one, outcome="unsolved", steps=2) if one.config == "x" else one for one in outcomes]
    gates = check_gate(expression, summarise(worse, ["baseline", "x", "y"]), tasks=16)
    assert [gate.met for gate in gates] == [False, False]
    assert "0.00, baseline 1.00, over 8 of 16 tasks" in gates[0].reason
    assert "2.00 steps per run, baseline 1.00" in gates[1].reason


def test_a_condition_that_holds_says_over_how_many_tasks():
    tasks = [f"t{n:02}" for n in range(20)]
    outcomes = [
        *on("baseline", tasks, "solved"), *on("x", tasks[:2], "solved"), *on("x", tasks[2:], "error"),
    ]  # fmt: skip
    (gate,) = check_gate("no_harm(0.1)", summarise(outcomes, ["baseline", "x"]), 20)
    assert gate.met
    assert gate.reason.endswith("over 2 of 20 tasks")
    both = [*outcomes, *on("y", tasks, "solved")]
    (gate,) = check_gate("no_harm(0.1)", summarise(both, ["baseline", "x", "y"]), 20)
    assert gate.reason.endswith("over 2 to 20 of 20 tasks")
    assert check_gate("no_harm(0)", summarise(outcomes[:1], ["baseline"]), 1)[0].met


def test_attempts_that_only_one_side_has_do_not_decide():
    # The baseline solves the easy task always and the hard one never; so does x, which had the hard one three times.
    outcomes = [outcome(name, "easy", "solved") for name in ("baseline", "x")]
    outcomes += [outcome("baseline", "hard"), *(outcome("x", "hard", attempt=attempt) for attempt in (1, 2, 3))]
    assert judged("no_harm(0)", outcomes) == [True]


def test_a_config_without_a_task_in_common_with_the_baseline_meets_no_condition_and_the_reason_is_told():
    outcomes = [outcome("baseline", "a", "solved"), outcome("x", "b", "solved")]
    gates = check_gate("improves(x), no_harm(0.9), parse_fail<=baseline", summarise(outcomes, ["baseline", "x"]), 2)
    reason = "x and the baseline have no task of which both have a valid trial"
    assert [(gate.met, gate.reason) for gate in gates] == [(False, reason)] * 3


def test_a_condition_that_is_given_twice_is_one_gate():
    assert split_gate("no_harm(0.1), steps<=baseline and no_harm(0.1)") == ("no_harm(0.1)", "steps<=baseline")


def test_without_a_valid_trial_no_condition_is_met():
    outcomes = [outcome("baseline", "a", "solved"), outcome("x", "a", "error")]
    assert judged("improves(x), no_harm(0.9), steps<=baseline", outcomes) == [False, False, False]


def test_a_gate_may_only_name_configs_that_are_compared_with_the_baseline():
    configs = [Config("baseline", "baseline"), Config("x", "steered"), Config("zero", "control")]
    check_names("improves(x), improves(zero) and no_harm(0.1)", configs)
    for name in ("y", "baseline"):
        with pytest.raises(UsageError, match=rf"no config {name} is compared .*expected one of x, zero$"):
            check_names(f"improves({name})", configs)


def test_no_harm_goes_by_the_estimate_and_tells_how_low_the_lowest_config_may_be():
    # 5/8 against 4/8 and 6/8: one task lost, and with it an interval far below.
    (gate,) = check_gate(
        "no_harm(0.2)", summarise(arms(baseline=(5, 8), x=(4, 8), y=(6, 8)), ["baseline", "x", "y"]), 8
    )
    assert gate.met
    assert re.fullmatch(
        r"holds for every config, over 8 of 8 tasks; x has −0\.12 \[−0\.[34]\d, \+0\.[12]\d\]", gate.reason
    )


def test_a_fall_that_nothing_exceeds_is_no_condition():
    with pytest.raises(UsageError, match=r"'no_harm\(10\)' always holds; expected a difference in pass rate below 1"):
        split_gate("steps<=baseline and no_harm(10)")


@pytest.mark.parametrize(
    "expression",
    ["", "improves", "better(x)", "no_harm()", "no_harm(1.2.3)", "no_harm(.)", "improves(x) or no_harm(1)"],
)
def test_what_is_no_condition_is_refused_with_the_forms_there_are(expression):
    with pytest.raises(UsageError, match=r"expected improves\(CONFIG\)"):
        split_gate(expression)
