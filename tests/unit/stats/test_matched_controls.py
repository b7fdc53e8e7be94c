"""Effects of matched controls, and the rank of a vector among them."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.controlled import CONFIGS, runs
from support.outcomes import outcome

from capvec.stats.matched_controls import compare_with_matched_controls, rank
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit


@given(st.lists(st.integers(-4, 4).map(float), min_size=1, max_size=8), st.integers(-4, 4).map(float))
def test_ranks_count_ties_against_the_vector_and_mirror_each_other(controls, value):
    place, mirrored = rank(value, controls), rank(-value, [-control for control in controls])
    assert place.as_high == sum(control >= value for control in controls)
    assert (place.as_high, place.as_low, place.as_far) == (mirrored.as_low, mirrored.as_high, mirrored.as_far)
    assert place.p_higher == (1 + place.as_high) / (1 + len(controls))
    assert min(place.p_higher, place.p_lower, place.p_two_sided) >= 1 / (1 + len(controls))


def test_a_vector_that_is_one_more_control_has_every_p_equally_often():
    # Every order of five values is as likely as every other: over all of them p takes 1/5 … 5/5 a fifth of the time.
    values = (-0.3, -0.1, 0.0, 0.25, 0.5)
    p_values = [rank(first, rest) for first, *rest in permutations(values)]
    for name in ("p_higher", "p_lower", "p_two_sided"):
        found, often = np.unique([getattr(p, name) for p in p_values], return_counts=True)
        np.testing.assert_allclose(found, [0.2, 0.4, 0.6, 0.8, 1.0])
        assert set(often) == {24}  # 5!/5


def test_sums_in_another_order_are_ties():
    # 0.1 + 0.2 − 0.3 is 5.6e-17 and not 0.
    assert rank(0.1 + 0.2 - 0.3, [0.0]).p_higher == 1


def test_a_rank_without_controls_does_not_exist():
    with pytest.raises(ValueError, match="at least one control"):
        rank(0.5, [])


def test_effects_are_differences_to_the_baseline_and_ranked_among_the_controls():
    found = compare_with_matched_controls(
        runs(baseline="1000", v="1110", r1="1111", r2="0000", f="0000", z="1000"), CONFIGS
    )
    assert [(c.config, c.kind, c.metric) for c in found] == [
        ("v", "random", metric) for metric in ("pass_rate", "parse_fail", "no_cmd", "steps")
    ]
    solved, *_, steps = found
    # 3/4 − 1/4; the controls 4/4 − 1/4 and 0/4 − 1/4: r1 is as high and as far, r2 is as low.
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.75, "r2": -0.25})
    assert (solved.rank.as_high, solved.rank.as_low, solved.rank.as_far) == (1, 1, 1)
    assert solved.rank.p_higher == pytest.approx(2 / 3)
    assert solved.smallest_p == pytest.approx(1 / 3)
    # A solved trial took 15 steps, another 5: the same picture, ten times as large.
    assert (steps.effect, steps.controls) == (5, {"r1": 7.5, "r2": -2.5})


def test_only_pairs_that_all_have_a_valid_trial_of_are_used():
    (solved, *_) = compare_with_matched_controls(runs(baseline="1000", v="1e10", r1="111e", r2="0.00"), CONFIGS)
    # Left: t0 and t2. Baseline 1, 0; v 1, 1; r1 1, 1; r2 0, 0.
    assert (solved.trials, solved.left_out) == (2, 2)
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.5, "r2": -0.5})


def test_a_control_that_was_not_measured_is_no_control():
    (solved, *_) = compare_with_matched_controls(runs(baseline="1000", v="1110", r1="1000", r2="eeee"), CONFIGS)
    assert solved.controls == {"r1": 0.0}
    assert solved.rank.p_higher == 1 / 2
    assert compare_with_matched_controls(runs(baseline="1000", v="1110", r1="eeee"), CONFIGS) == ()
    assert compare_with_matched_controls(runs(baseline="10..", v="..11", r1="1111"), CONFIGS) == ()


def test_controls_are_measured_as_the_headline_is_with_every_task_weighing_the_same():
    # Task a once, solved by v alone; task b three times, solved by none: a half over tasks, a quarter over trials.
    outcomes = [
        outcome(name, task, "solved" if (name, task) == ("v", "a") else "unsolved", attempt=attempt)
        for name in ("baseline", "v", "r1")
        for task, attempts in (("a", 1), ("b", 3))
        for attempt in range(1, attempts + 1)
    ]
    (solved, *_) = compare_with_matched_controls(outcomes, CONFIGS)
    assert (solved.effect, solved.controls) == (0.5, {"r1": 0.0})
    assert summarise(outcomes, ["baseline", "v", "r1"]).configs[1].effect.difference == 0.5
