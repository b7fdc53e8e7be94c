"""One trial against a scripted model and sandbox: what becomes an outcome, and what an error."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest
from support.scripted_sandbox import ScriptedProvider

from capvec.errors import EngineUnavailable, SandboxUnavailable
from capvec.plan.plan import Plan, Settings
from capvec.records import CommandResult, Config, Measured, Outcome, TrialSpec
from capvec.run.trial import TrialRunner
from capvec.steering import BlockLayout, Receipt, Steer
from capvec.task_records import Task
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit

STEER = Steer(1, "d", 2.0)
# The scripted model counts words: a prompt of any length, and one word, "DONE", in reply.
CONFIGS = (
    Config("baseline", "baseline"),
    Config("steered", "steered", (STEER,), layer=1, alpha=2.0, targets=(10.0,), vectors=("v",)),
)


@pytest.fixture
def run(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")

    def run(
        replies,
        *,
        config="steered",
        receipts=(),
        reward=b"1",
        script=None,
        model=ScriptedModel,
        reward_name=None,
        solved_at=1.0,
    ):
        name = "reward.json" if reward is not None and reward.startswith(b"{") else "reward.txt"
        files = {f"/logs/verifier/{name}": reward} if reward is not None else {}
        script = {
            "bash -c /tests/test.sh": CommandResult("", 0),
            "ls": CommandResult("a\n", 0),
            **(script or {}),
        }
        task = Task("t", tmp_path, "Do it.", "0")
        spec = TrialSpec("t", config, 1, 7)
        settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7, reward=reward_name, solved_at=solved_at)
        plan = Plan("r", tmp_path, (task,), CONFIGS, (spec,), settings, session="s", layout=BlockLayout("layers", 3))
        return TrialRunner(plan, model(replies, receipts=receipts), ScriptedProvider(script, files)).run(spec)

    return run


def receipt(prompt, **changes):
    good = {
        "steer": STEER, "fired": 1, "forwards": 1, "passed": prompt, "steered": prompt,
        "block": "layers.1", "receiver": "layers.2", "vector": "v", "off_axis_max": 0.5,
        "shift_mean": 10.0, "shift_min": 10.0, "shift_max": 10.0, "level_mean": 1.0, "level_min": 0.0, "level_max": 2.0,
        "norm_ratio_min": 1.0, "norm_ratio_max": 2.0, "ambient_norm": 5.0, "rounding": 0.0, "rounding_max": 0.0,
        "scale_min": 1.0, "scale_max": 1.0, "rounding_worst": 0.0, "error_max": 0.0,
    }  # fmt: skip
    return Receipt(**(good | changes))


@pytest.fixture
def prompt(run, tmp_path):
    """Words of the opening, which the scripted model counts as tokens."""
    run(["DONE"], config="baseline")
    said = json.loads((tmp_path / "trajectories" / "t-baseline-t1.json").read_text())
    return said["final_metrics"]["total_prompt_tokens"]


TIMES = {"model_s", "sandbox_s", "wall_s"}
"""These may round to 0 where model and sandbox are scripted."""
OF_CONTROLS = {"note"}
"""Filled where a control ran (tests/integration/test_check.py)."""
OF_TRIES = {"lost", "away"}
"""Filled where a trial began anew (tests/unit/run/test_tries.py)."""


def test_every_field_of_an_outcome_is_filled(run, prompt):
    replies = ["```bash\nls\n```\n```bash\nls\n```", "```\nls\n```", "I am thinking.", "DONE"]
    outcomes = [run(replies, config="baseline"), run(["DONE"], receipts=[receipt(prompt)]), run(["DONE"])]
    empty = (
        {
            one.name
            for one in fields(Outcome)
            if all(getattr(outcome, one.name) in (one.default, {}) for outcome in outcomes)
        }
        - TIMES
        - OF_CONTROLS
        - OF_TRIES
    )
    assert not empty, f"capvec/run/trial.py does not fill {sorted(empty)} of Outcome"


@pytest.mark.parametrize(("reward", "status"), [(b"1", "solved"), (b"0", "unsolved"), (b"0.99", "unsolved")])
def test_the_verifier_decides(run, reward, status):
    outcome = run(["```bash\nls\n```", "DONE"], config="baseline", reward=reward)
    assert (outcome.outcome, outcome.end_reason, outcome.steps, outcome.seed) == (status, "done", 2, 7)


@pytest.mark.parametrize(
    ("reward", "solved_at", "status"),
    [
        (b"0.5", 0.5, "solved"),
        (b"0.49", 0.5, "unsolved"),
        (b"0.9999999", 1.0, "unsolved"),
        (b"1e99", 1.0, "solved"),
        (b"-1", -1.0, "solved"),
        (b"-1.5", -1.0, "unsolved"),
    ],
)
def test_a_trial_is_solved_from_the_reward_that_was_asked_for(run, reward, solved_at, status):
    outcome = run(["DONE"], config="baseline", reward=reward, solved_at=solved_at)
    assert (outcome.outcome, outcome.reward) == (status, float(reward))


def test_all_named_rewards_are_kept_beside_the_one_that_counts(run):
    outcome = run(["DONE"], config="baseline", reward=b'{"accuracy": 0.5, "speed": 1}', reward_name="speed")
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("solved", 1.0, {"accuracy": 0.5, "speed": 1.0})


@pytest.mark.parametrize(
    ("name", "said"), [(None, "say which one counts with --reward"), ("cost", "no reward 'cost', which --reward asks")]
)
def test_rewards_without_one_that_counts_are_an_error_and_never_unsolved(run, name, said):
    outcome = run(["DONE"], config="baseline", reward=b'{"accuracy": 0, "speed": 0}', reward_name=name)
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("error", None, {})
    assert said in outcome.error


def test_a_reply_whose_receipt_shows_the_steer_counts(run, prompt):
    outcome = run(["DONE"], receipts=[receipt(prompt)])
    assert (outcome.outcome, outcome.measured) == ("solved", (Measured(1, "add", 10.0, 10.0),))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (None, "does this engine steer"),
        ({"shift_mean": 0.0}, "measured a mean shift of 0"),
        ({"shift_mean": 0.0, "shift_min": 0.0, "shift_max": 0.0}, "expected 10"),
        ({"vector": "w"}, "expected v, of the direction"),
        ({"block": "layers.0"}, "the hook ran on layers.0"),
        ({"fired": 0}, "the hook ran 0 times"),
    ],
)
def test_a_reply_that_was_not_steered_is_an_error_even_where_the_verifier_would_be_content(run, prompt, changes, said):
    outcome = run(["DONE"], receipts=[] if changes is None else [receipt(prompt, **changes)])
    assert (outcome.outcome, outcome.reward) == ("error", None)
    assert said in outcome.error


class BesideASteeredRow(ScriptedModel):
    """Answers as the script says, from a batch in which a neighbour's steer reached this row too."""

    def complete(self, *conversation, **asked):
        reply = super().complete(*conversation, **asked)
        return replace(reply, isolation=replace(reply.isolation, sites=1, watched=1, leak_max=0.25))


@pytest.mark.parametrize("config", ["baseline", "steered"])
def test_a_reply_that_a_neighbours_steer_reached_is_an_error_in_the_baseline_too(run, prompt, config):
    receipts = [receipt(prompt)] if config == "steered" else []
    outcome = run(["DONE"], config=config, receipts=receipts, model=BesideASteeredRow)
    assert (outcome.outcome, outcome.reward) == ("error", None)
    assert "was moved by 0.25" in outcome.error


def test_a_baselines_trajectory_shows_that_nothing_was_done_to_it(run, tmp_path: Path):
    run(["DONE"], config="baseline")
    steps = json.loads((tmp_path / "trajectories" / "t-baseline-t1.json").read_text())["steps"]
    assert steps[-1]["metrics"]["extra"]["isolation"]["leak_max"] == 0.0


@pytest.mark.parametrize(
    ("replies", "script", "reward", "said"),
    [
        ([EngineUnavailable("it died")], {}, b"1", "EngineUnavailable: it died"),
        (["```bash\nls\n```"], {"ls": SandboxUnavailable("it is gone")}, b"1", "SandboxUnavailable: it is gone"),
        (["DONE"], {}, None, "VerifierFault"),
    ],
)
def test_faults_of_the_instrument_are_errors_and_never_unsolved(run, replies, script, reward, said):
    outcome = run(replies, config="baseline", script=script, reward=reward)
    assert (outcome.outcome, outcome.end_reason) == ("error", "error")
    assert said in outcome.error


def test_what_was_said_before_a_fault_is_kept(run, tmp_path: Path):
    run(["```bash\nls\n```", EngineUnavailable("it died")], config="baseline")
    steps = json.loads((tmp_path / "trajectories" / "t-baseline-t1.json").read_text())["steps"]
    assert steps[-1]["source"] == "agent"
