"""Effects with the task as the unit. Expected p-values are counted by hand beside each test."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.stats.effects import paired_effect

pytestmark = pytest.mark.unit


def test_tasks_count_alike_however_many_attempts_each_has():
    # Task a: 1 of 1 against 0 of 1; task b: 0 of 3 against 0 of 1. The mean over tasks is 1/2; pooled it would be 1/4.
    ours = [outcome("x", "a", "solved"), *(outcome("x", "b", attempt=k) for k in (1, 2, 3))]
    effect = paired_effect([*ours, outcome("baseline", "a"), outcome("baseline", "b")], "x", "pass_rate")
    assert (effect.tasks, effect.n, effect.baseline, effect.value, effect.difference) == (2, 4, 0.0, 0.5, 0.5)
    # Differences (1, 0): all four sign patterns are as far from zero.
    assert effect.pvalue == 1.0


def test_the_attempts_are_those_of_the_arm_that_has_fewer_and_tasks_with_few_weigh_more():
    def of(config, *attempts):
        return [outcome(config, f"t{k}", attempt=n) for k, count in enumerate(attempts) for n in range(count)]

    # Both have at least 1, 2 and 4: 3/(1 + 1/2 + 1/4) = 12/7.
    effect = paired_effect([*of("x", 1, 9, 4), *of("baseline", 5, 2, 4)], "x", "pass_rate")
    assert effect.attempts == pytest.approx(12 / 7)


def test_seven_tasks_that_all_rise_reach_two_of_128_patterns():
    outcomes = [
        outcome(config, f"t{k}", parse_fail=int(config == "x")) for k in range(7) for config in ("baseline", "x")
    ]
    effect = paired_effect(outcomes, "x", "parse_fail")
    assert (effect.difference, effect.pvalue) == (1.0, 2 / 2**7)


def test_errors_and_tasks_of_one_side_alone_are_left_out():
    outcomes = [
        outcome("x", "a", "solved"), outcome("x", "a", "error", attempt=2), outcome("baseline", "a", "solved"),
        outcome("x", "b", "solved"), outcome("baseline", "b", "error"),
    ]  # fmt: skip
    effect = paired_effect(outcomes, "x", "pass_rate")
    assert (effect.tasks, effect.n, effect.difference, effect.attempts) == (1, 1, 0.0, 1)
    assert paired_effect(outcomes[-2:], "x", "pass_rate") is None


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sampled_from(["x", "baseline", "other"]), st.integers(0, 3), st.integers(0, 9))))
def test_an_effect_is_the_mean_over_tasks_of_what_each_trial_of_the_two_configs_counts(rows):
    outcomes = [
        outcome(config, f"t{task}", attempt=attempt, steps=steps)
        for attempt, (config, task, steps) in enumerate(rows, start=1)
    ]
    values = {
        (name, f"t{task}"): [steps for config, one, steps in rows if (config, one) == (name, task)]
        for name in ("x", "baseline")
        for task in range(4)
    }
    shared = [f"t{task}" for task in range(4) if values["x", f"t{task}"] and values["baseline", f"t{task}"]]
    effect = paired_effect(outcomes, "x", "steps")
    if not shared:
        assert effect is None
        return
    ours, base = (
        sum(Fraction(sum(values[name, task]), len(values[name, task])) for task in shared) / len(shared)
        for name in ("x", "baseline")
    )
    assert (effect.value, effect.baseline, effect.difference) == (float(ours), float(base), float(ours - base))
    assert (effect.tasks, effect.n) == (len(shared), sum(len(values["x", task]) for task in shared))


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3)), min_size=1, max_size=8))
def test_swapping_config_and_baseline_turns_the_sign_and_keeps_p(counts):
    def arms(first, second):
        return [
            outcome(name, f"t{k}", no_cmd=pair[side])
            for k, pair in enumerate(counts)
            for name, side in ((first, 0), (second, 1))
        ]

    one = paired_effect(arms("x", "baseline"), "x", "no_cmd")
    other = paired_effect(arms("baseline", "x"), "x", "no_cmd")
    assert one.difference == pytest.approx(-other.difference)
    assert one.pvalue == other.pvalue
