"""Readings of errors and repaired replies, against effects of outcomes that are rewritten as each reading says."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.stats.effects import paired_effect
from capvec.stats.sensitivity import sensitivity

pytestmark = pytest.mark.unit

trials = st.lists(
    st.tuples(st.integers(0, 3), st.sampled_from(["solved", "unsolved", "error"]), st.integers(0, 1)), max_size=12
)


def arm(name, rows):
    return [
        outcome(name, f"t{task}", status, attempt, repaired=repaired)
        for attempt, (task, status, repaired) in enumerate(rows, start=1)
    ]


def errors_as(status, outcomes):
    return [replace(one, outcome=status) if one.outcome == "error" else one for one in outcomes]


def strictly(outcomes):
    return [replace(one, outcome="unsolved") if one.outcome == "solved" and one.repaired else one for one in outcomes]


@settings(max_examples=60)
@given(trials, trials)
def test_a_reading_has_the_effect_of_the_outcomes_that_it_makes_of_them(ours, theirs):
    config, base = arm("x", ours), arm("baseline", theirs)
    rewritten = {
        "errors excluded": [*config, *base],
        "errors count against the config": [*errors_as("unsolved", config), *base],
        "errors count for the config": [*errors_as("solved", config), *base],
        "strict parses only": [*strictly(config), *strictly(base)],
    }
    expected = {reading: paired_effect(outcomes, "x", "pass_rate") for reading, outcomes in rewritten.items()}
    found = {one.reading: one.effect for one in sensitivity("x", config, base)}
    assert found == {reading: effect for reading, effect in expected.items() if effect is not None}


def test_without_a_record_of_repairs_there_is_no_strict_reading():
    config, base = arm("x", [(0, "solved", 1)]), arm("baseline", [(0, "solved", 0)])
    assert [one.reading for one in sensitivity("x", config, base)][-1] == "strict parses only"
    assert "strict parses only" not in {one.reading for one in sensitivity("x", config, base, strict=False)}
