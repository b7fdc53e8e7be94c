"""What the control with α = 0 has to show: the tokens of the baseline."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from support.controlled import CONFIGS, runs

from capvec.plan.plan import Plan, Settings
from capvec.results.zero_control import Comparison, Turn, check_zero, compare
from capvec.task_records import Task

pytestmark = pytest.mark.unit


@pytest.fixture
def zero(tmp_path):
    """Judges a zero control whose trial said `ours` where the baseline's said `theirs`."""
    (tmp_path / "trajectories").mkdir()
    settings = Settings("m", "bash-block", "brief", 1, 1, 0.7)
    plan = Plan("r", tmp_path, (Task("t0", Path("t0"), "do", "0"),), CONFIGS, (), settings)

    def check(ours, theirs, marks="1", **thoughts):
        for config, said in (("z", ours), ("baseline", theirs)):
            metrics = {"prompt_tokens": 9, "completion_tokens": len(said)}
            step = {"message": said, "metrics": metrics, "extra": {"observation": ""}, "llm_call_count": 1}
            step |= {"reasoning_content": thoughts[config]} if config in thoughts else {}
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


def test_zero_that_thinks_otherwise_than_the_baseline_is_not_met(zero):
    assert zero("ls", "ls", z="I look.", baseline="I look.")[0].met
    assert not zero("ls", "ls", z="I look!", baseline="I look.")[0].met


def test_zero_that_could_not_be_compared_is_not_met_and_one_that_was_not_run_is_not_judged(zero):
    (gate,) = zero("ls", "ls", marks="e")
    assert not gate.met
    assert zero("ls", "ls", marks=".") == ()


def turns(*said):
    return [Turn(reply, (10, len(reply)), observation) for reply, observation in said]


def test_replies_are_compared_as_long_as_the_conversations_are_identical():
    base = turns(("ls", "a"), ("cat a", "1"), ("done", ""))
    assert compare("t", 1, base, base) == Comparison("t", 1, 3, None, False)
    other_reply = turns(("ls", "a"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_reply, base) == Comparison("t", 1, 2, 1, False)
    # Another clock: the replies so far were compared, and what was said to the other conversation is not.
    other_clock = turns(("ls", "b"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_clock, base) == Comparison("t", 1, 1, None, True)
    assert compare("t", 1, base[:2], base) == Comparison("t", 1, 2, None, True)
    assert compare("t", 1, [], base) == Comparison("t", 1, 0, None, True)


def test_the_same_text_from_other_tokens_differs():
    base = turns(("ls", "a"), ("done", ""))
    assert compare("t", 1, [base[0], replace(base[1], tokens=(10, 5))], base).differing == 1
