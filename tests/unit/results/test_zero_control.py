"""What the control with α = 0 has to show: the tokens of the baseline."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.controlled import CONFIGS, runs

from capvec.plan.plan import Plan, Settings
from capvec.records import Task
from capvec.results.zero_control import check_zero

pytestmark = pytest.mark.unit


@pytest.fixture
def zero(tmp_path):
    """Judges a zero control whose trial said `ours` where the baseline's said `theirs`."""
    (tmp_path / "trajectories").mkdir()
    settings = Settings("m", "bash-block", "brief", 1, 1, 0.7)
    plan = Plan("r", tmp_path, (Task("t0", Path("t0"), "do", "0"),), CONFIGS, (), settings)

    def check(ours, theirs, marks="1"):
        for config, said in (("z", ours), ("baseline", theirs)):
            metrics = {"prompt_tokens": 9, "completion_tokens": len(said)}
            step = {"message": said, "metrics": metrics, "extra": {"observation": ""}, "llm_call_count": 1}
            (tmp_path / "trajectories" / f"t0-{config}-t1.json").write_text(json.dumps({"steps": [step]}))
        return check_zero(plan, runs(baseline="1", z=marks))

    return check


def test_zero_that_says_what_the_baseline_says_is_met_and_one_other_reply_is_not(zero):
    (gate,) = zero("ls", "ls")
    assert gate.met
    assert "1 replies to identical conversations" in gate.reason
    (gate,) = zero("ls", "cat")
    assert not gate.met
    assert "the first: t0, attempt 1, reply 0" in gate.reason


def test_zero_that_could_not_be_compared_is_not_met_and_one_that_was_not_run_is_not_judged(zero):
    (gate,) = zero("ls", "ls", marks="e")
    assert not gate.met
    assert zero("ls", "ls", marks=".") == ()
