"""What the report says first: the verdicts, and the configs that have none."""

from dataclasses import replace

import pytest
from support.outcomes import arms

from capvec.report.verdict import findings, uncompared, verdict
from capvec.stats.summary import summarise

pytestmark = pytest.mark.unit


def test_a_config_without_a_valid_trial_is_named_in_the_status():
    trials = [
        replace(one, outcome="error") if one.config == "b" else one for one in arms(baseline=(0, 3), a=(1, 3), b=(1, 3))
    ]
    summary = summarise(trials, ["baseline", "a", "b", "c"])
    first, second = uncompared(summary)
    assert first.startswith("b has no valid trial (3 ")
    assert second.startswith("c has no valid trial")
    assert [one.config for one in findings(summary).items] == ["a"]


def test_alike_verdicts_are_named_together_and_controls_are_not_among_them():
    trials = arms(baseline=(2, 20), s=(16, 20), t=(17, 20), control=(20, 20))
    summary = summarise(trials, ["baseline", "s", "t", "control"], comparisons=["s", "t"])
    assert verdict(summary) == "improves: s, t."
    assert [(one.config, one.name) for one in findings(summary).items] == [("s", "improves"), ("t", "improves")]
    assert all(one.details.startswith(": pass rate 0.10") for one in findings(summary).items)
    assert verdict(summarise(trials[:20], ["baseline"])).startswith("Nothing to compare")
