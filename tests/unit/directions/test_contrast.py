"""Contrasts: which traces each policy takes, what it says of the others, and what matching promises."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.directions.contrast import POLICIES, select_contrast, verdict
from capvec.directions.matching import by_length, by_task
from capvec.directions.recipe import CONTRASTS, ContrastName, Recipe
from capvec.errors import UsageError
from capvec.records import Trace

pytestmark = pytest.mark.unit


def trace(name, **changes):
    base = Trace(name, "t", "m", ({"role": "user", "content": name},), reward=0.0, steps=20, parse_fail=0, no_cmd=0)
    return replace(base, **changes)


def ids(traces):
    return [trace.id for trace in traces]


MIXED = [
    trace("pass", reward=1.0, steps=3, parse_fail=2),
    trace("fail"),
    trace("exactly15", steps=15),
    trace("short", steps=14),
    trace("messy", parse_fail=1),
    trace("uncounted", parse_fail=None, uncounted="no parser"),
    trace("partial", reward=0.5),
    trace("error", reward=None),
    trace("steered", config="steered-L3-a4"),
    trace("other", model="n"),
]


@st.composite
def corpora(draw):
    """Traces of a few tasks, models and lengths, with every kind of outcome, of which every policy makes a contrast."""
    mixed = [
        trace(
            f"r{index}",
            task=draw(st.sampled_from("abc")),
            model=draw(st.sampled_from(["m", "m", "m", "n"])),
            reward=draw(st.sampled_from([0.0, 0.0, 1.0, 1.0, 0.5, None])),
            steps=draw(st.integers(1, 30)),
            parse_fail=draw(st.sampled_from([0, 0, 0, 1, None])),
        )
        for index in range(draw(st.integers(0, 10)))
    ]
    # One pass and one failure of a task and a length, for every policy of one model, and a trace of another model.
    shared = {"task": draw(st.sampled_from("abc")), "steps": draw(st.integers(15, 30))}
    certain = [trace("pass", reward=1.0, **shared), trace("fail", reward=0.0, **shared), trace("other", model="n")]
    return draw(st.permutations([*mixed, *certain]))


# ------------------------------------------------------------------------------------------------ rules


def test_same_model_takes_passes_against_long_clean_failures_of_one_model():
    contrast = select_contrast(Recipe(), MIXED, "m")
    assert (ids(contrast.positives), ids(contrast.negatives)) == (["pass"], ["fail", "exactly15"])
    assert contrast.record().tasks_overlap == 1


def test_every_rule_says_how_many_it_kept_and_dropped_and_why():
    contrast = select_contrast(Recipe(), MIXED, "m")
    assert [(rule.kept, rule.dropped) for rule in contrast.rules] == [
        (9, {"without a reward": 1}),
        (8, {"from a steered config": 1}),
        (7, {"from another model": 1}),
        (6, {"with a partial reward": 1}),
        (5, {"failed with unknown parse_fail": 1}),
        (4, {"failed with parse_fail > 0": 1}),
        (3, {"failed in fewer than 15 steps": 1}),
    ]
    assert "1 trace: no parser (1)" in contrast.record().unknown_in_words()
    assert contrast.record().to_json()["rules"][0] == {
        "rule": "has a reward",
        "kept": 9,
        "dropped": {"without a reward": 1},
    }


def test_cross_model_takes_passes_against_everything_of_other_models():
    traces = [trace("pass", reward=1.0), trace("fail"), trace("theirs", model="n", reward=1.0, parse_fail=9, steps=1)]
    contrast = select_contrast(Recipe("cross-model"), traces, "m")
    assert (ids(contrast.positives), ids(contrast.negatives)) == (["pass"], ["theirs"])
    assert contrast.dropped == {"not solved by the model itself": 1}


@pytest.mark.parametrize(
    ("recipe", "positives", "negatives"),
    [
        (Recipe(positive_reward=0.5), ["pass", "partial"], ["fail", "exactly15"]),
        (Recipe(negative_min_steps=14), ["pass"], ["fail", "exactly15", "short"]),
        (Recipe(negative_max_parse_fail=1), ["pass"], ["fail", "exactly15", "messy"]),
        (Recipe(negative_min_steps=16), ["pass"], ["fail"]),
    ],
)
def test_thresholds_come_from_the_recipe(recipe, positives, negatives):
    contrast = select_contrast(recipe, MIXED, "m")
    assert (ids(contrast.positives), ids(contrast.negatives)) == (positives, negatives)


def test_a_reward_that_is_a_sum_of_tenths_reaches_the_threshold():
    traces = [trace("pass", reward=(0.6 + 0.7) / 2), trace("less", reward=0.6499999), trace("fail")]
    contrast = select_contrast(Recipe(positive_reward=0.65), traces, "m")
    assert (ids(contrast.positives), ids(contrast.negatives)) == (["pass"], ["fail"])


def test_a_reward_below_zero_is_a_failure_and_not_a_partial_reward():
    contrast = select_contrast(Recipe(), [trace("pass", reward=1.0), trace("fined", reward=-1.0)], "m")
    assert ids(contrast.negatives) == ["fined"]


@pytest.mark.parametrize(
    ("place", "names"),
    [("POLICIES in capvec/directions/contrast.py", POLICIES), ("CONTRASTS in capvec/directions/recipe.py", CONTRASTS)],
)
def test_the_contrasts_are_those_that_the_option_offers(place, names):
    differ = set(names) ^ set(get_args(ContrastName))
    assert not differ, f"{sorted(differ)} stand in only one of ContrastName in capvec/directions/recipe.py and {place}"


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(sorted(POLICIES)), corpora())
def test_every_trace_is_kept_or_dropped_by_one_rule(name, traces):
    contrast = select_contrast(Recipe(name), traces, "m")
    left = len(traces)
    for rule in contrast.rules:
        assert rule.kept + sum(rule.dropped.values()) == left
        left = rule.kept
    assert left == len(contrast.traces)
    assert len(set(ids(contrast.traces))) == left


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["same-model", "cross-model"]), corpora())
def test_the_verdict_on_a_trace_is_what_the_contrast_makes_of_it(name, traces):
    recipe = Recipe(name)
    contrast = select_contrast(recipe, traces, "m")
    for side in ("positive", "negative"):
        expected = [one for one in traces if verdict(recipe, one, contrast.model) == side]
        assert getattr(contrast, f"{side}s") == tuple(expected)


def test_without_traces_of_the_model_the_one_with_most_passes_stands_in():
    traces = [trace("a", model="x", reward=1.0), trace("b", model="x"), trace("c", model="w")]
    assert select_contrast(Recipe(), traces, "m").model == "x"


def test_an_empty_class_says_what_was_dropped_and_what_is_needed():
    short = [trace("pass", reward=1.0), trace("short", steps=2)]
    with pytest.raises(UsageError, match=r"1 positive and 0 negative traces of 2 \(dropped: 1 failed in fewer than 15"):
        select_contrast(Recipe(), short, "m")
    far = [trace("pass", reward=1.0, steps=2), trace("fail", steps=20)]
    with pytest.raises(UsageError, match=r"length-matched: 0 positive and 0 negative .* as the passes \(--length"):
        select_contrast(Recipe("length-matched"), far, "m")


def test_a_contrasts_hash_is_that_of_its_conversations_and_their_sides():
    one, two = trace("p", reward=1.0), trace("n")
    base = select_contrast(Recipe(), [one, two], "m")
    other_order = select_contrast(Recipe(), [two, one, trace("short", steps=1)], "m")
    swapped = select_contrast(Recipe(), [replace(one, reward=0.0), replace(two, reward=1.0)], "m")
    assert other_order.hash == base.hash == base.record().to_json()["hash"]
    assert swapped.hash != base.hash


# ------------------------------------------------------------------------------------------------ matching


@settings(max_examples=40, deadline=None)
@given(st.sampled_from(["task-matched", "length-matched"]), corpora(), st.randoms())
def test_a_matched_contrast_is_in_pairs_and_does_not_depend_on_the_order_of_the_traces(name, traces, random):
    contrast = select_contrast(Recipe(name, negative_min_steps=5), traces, "m")
    again = select_contrast(Recipe(name, negative_min_steps=5), random.sample(traces, len(traces)), "m")
    assert (again.positives, again.negatives, again.hash) == (contrast.positives, contrast.negatives, contrast.hash)
    assert contrast.paired
    assert len(contrast.positives) == len(contrast.negatives)
    assert {one.model for one in contrast.traces} == {"m"}


@settings(max_examples=40, deadline=None)
@given(corpora())
def test_within_a_task_there_are_as_many_positives_as_negatives_and_as_many_as_there_can_be(traces):
    contrast = select_contrast(Recipe("task-matched", negative_min_steps=0), traces, "m")
    unmatched = select_contrast(Recipe("same-model", negative_min_steps=0), traces, "m")
    for task in "abc":
        pos, neg = ([one for one in side if one.task == task] for side in (contrast.positives, contrast.negatives))
        there = [sum(one.task == task for one in side) for side in (unmatched.positives, unmatched.negatives)]
        assert len(pos) == len(neg) == min(there)
    assert all(p.task == n.task for p, n in zip(contrast.positives, contrast.negatives, strict=True))


def test_task_matching_says_why_each_trace_was_dropped():
    passes = [trace(f"p{task}{n}", task=task) for task, count in (("a", 3), ("b", 2)) for n in range(count)]
    failures = [trace(f"n{task}{n}", task=task) for task, count in (("a", 1), ("c", 4)) for n in range(count)]
    assert by_task(passes, failures).dropped == {
        "passed on a task without a usable failure": 2,
        "failed on a task without a pass": 4,
        "more passes than failures of their task": 2,
    }


def test_the_rule_of_fifteen_steps_holds_within_task_and_not_where_length_is_matched():
    traces = [trace("p", reward=1.0, steps=4), trace("near", steps=5), trace("far", steps=20)]
    assert ids(select_contrast(Recipe("task-matched"), traces, "m").negatives) == ["far"]
    assert ids(select_contrast(Recipe("length-matched"), traces, "m").negatives) == ["near"]


def near(one, other, caliper):
    return abs(one - other) <= max(1, caliper * max(one, other))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=4),
    st.lists(st.integers(1, 12), min_size=1, max_size=5),
    st.sampled_from([0.0, 0.2, 0.5, 1.0]),
)
def test_length_matching_finds_as_many_pairs_as_the_caliper_allows_at_the_least_distance(passes, failures, caliper):
    matched = by_length(
        [trace(f"p{n}", steps=steps) for n, steps in enumerate(passes)],
        [trace(f"n{n}", steps=steps) for n, steps in enumerate(failures)],
        caliper,
    )
    gaps = [abs(p.steps - n.steps) for p, n in zip(matched.positives, matched.negatives, strict=True)]
    assert all(near(p.steps, n.steps, caliper) for p, n in zip(matched.positives, matched.negatives, strict=True))
    # The oracle tries every way to pair them: most pairs first, then the least distance.
    short, long = sorted([passes, failures], key=len)
    best = min(
        (
            -sum(near(*pair, caliper) for pair in zip(short, order, strict=True)),
            sum(abs(a - b) for a, b in zip(short, order, strict=True) if near(a, b, caliper)),
        )
        for order in permutations(long, len(short))
    )
    assert (-len(gaps), sum(gaps)) == best
    assert sum(matched.dropped.values()) == len(passes) + len(failures) - 2 * len(gaps)


def test_a_wider_caliper_takes_pairs_that_the_narrow_one_leaves_and_the_rule_says_how_wide():
    traces = [trace("p", reward=1.0, steps=10), trace("n", steps=15)]  # 5 apart: a third of the longer
    with pytest.raises(UsageError, match="0 positive and 0 negative"):
        select_contrast(Recipe("length-matched"), traces, "m")
    wide = select_contrast(Recipe("length-matched", length_caliper=0.375), traces, "m")
    assert (ids(wide.positives), ids(wide.negatives)) == (["p"], ["n"])
    assert wide.rules[-1].rule == "pairs whose steps differ by at most one, or by 37.5% of the longer"
