"""Tasks with several steps, done and judged in one real container."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.real_sweeps import no_container_is_left
from support.tasks import CLOSED, make_task

from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.run.check import Checker
from capvec.run.control import Scale
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.tasks.loader import load_task
from capvec.traces import read_traces
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.integration
RUN = f"test-steps-{os.getpid()}"

STEPS = """
multi_step_reward_strategy = "{strategy}"
{closed}
[[steps]]
name = "first"
min_reward = {least}
[[steps]]
name = "second"
healthcheck = {{ command = "[ -e /app/ready ]", retries = 1 }}
"""
OWNED = "FROM debian:bookworm-slim\nRUN useradd agent && install -d -o agent /app\nUSER agent\nWORKDIR /app\n"
"""The agent owns its folder, so that it can still write there after a step's files were put into it."""
JUDGE = "grep -qx {word} /app/said 2>/dev/null && reward={full} || reward=0\necho $reward > /logs/verifier/reward.txt\n"


@pytest.fixture
def write(tmp_path):
    """A task whose agent says `one`, which earns 0.5, and then `two`, which the second step's files ask for."""

    def write(strategy: str = "mean", least: float = 0.5) -> Path:
        toml = STEPS.format(strategy=strategy, closed=f"{CLOSED}storage_mb = 20\n", least=least)
        folder = make_task(tmp_path, "two-steps", toml)
        for name, word, full in (("first", "one", 0.5), ("second", "two", 1)):
            for path, text in {
                "instruction.md": f"Say {word}.\n",
                "tests/test.sh": JUDGE.format(word=word, full=full),
                "tests/secret": word,
                "solution/solve.sh": f"echo {word} >> /app/said\n",
            }.items():
                file = folder / "steps" / name / path
                file.parent.mkdir(parents=True, exist_ok=True)
                file.write_text(text)
        workdir = folder / "steps" / "second" / "workdir"
        workdir.mkdir()
        (workdir / "setup.sh").write_text("grep -q one /app/said && touch ready\n")
        (workdir / "word").write_text("two\n")
        (folder / "tests" / "test.sh").unlink()
        (folder / "environment" / "Dockerfile").write_text(OWNED)
        return folder

    return write


def trial(folder: Path, *replies: str) -> Outcome:
    task = load_task(folder)
    spec, config = TrialSpec(task.name, "baseline", 1, 0), Config("baseline", "baseline")
    settings = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7, solved_at=0.75)
    plan = Plan(RUN, folder.parent, (task,), (config,), (spec,), settings)
    outcome = TrialRunner(plan, ScriptedModel(list(replies)), DockerProvider()).run(spec)
    assert no_container_is_left(RUN)
    return outcome


def trajectory(folder: Path) -> Path:
    return folder.parent / "trajectories" / "two-steps-baseline-t1.json"


def act(command: str) -> str:
    return f"```bash\n{command}\n```"


@pytest.mark.parametrize(("strategy", "reward"), [("mean", 0.75), ("final", 1.0)])
def test_each_step_has_its_conversation_and_none_sees_the_tests_of_the_one_before(write, strategy, reward):
    folder = write(strategy)
    look = "cat /tests/secret /logs/verifier/*; ls -A /tests /logs/verifier"
    outcome = trial(folder, act("echo one >> said"), "DONE", act(f"{look}; cat word >> said"), "DONE")
    assert (outcome.error, outcome.note) == ("", "")
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("solved", reward, {"reward": reward})
    assert (outcome.steps, outcome.end_reason) == (4, "done")
    (trace,) = read_traces(trajectory(folder))
    said = [message["content"] for message in trace.messages if message["role"] == "user"]
    assert said[0].startswith("Say one.")
    assert said[2].startswith("Say two.")
    assert "/tests/secret: No such file" in said[3]
    assert said[3].count("0.5") == 0
    steps = json.loads(trajectory(folder).read_text())["steps"]
    assert [step["extra"]["step"] for step in steps] == ["first"] * 4 + ["second"] * 3


def test_a_step_whose_least_reward_is_not_met_ends_the_attempt_and_later_steps_are_not_counted(write):
    outcome = trial(write(least=0.6), act("echo one >> said"), "DONE")
    assert (outcome.outcome, outcome.reward, outcome.steps, outcome.error) == ("unsolved", 0.5, 2, "")


def test_a_step_that_cannot_begin_on_what_the_agent_left_is_no_error(write):
    outcome = trial(write(least=0.0), act("true"), "DONE")
    assert (outcome.outcome, outcome.reward, outcome.error) == ("unsolved", 0.0, "")
    assert "on what the agent left, step second: its setup.sh ended with exit code" in outcome.note


def test_too_much_on_the_disk_in_the_second_step_takes_nothing_from_the_first(write):
    fill = "for n in 1 2 3; do head -c 15M /dev/zero > /app/$n; done; sleep 15"
    outcome = trial(write(), act("echo one >> said"), "DONE", act(fill))
    assert (outcome.outcome, outcome.reward, outcome.rewards) == ("unsolved", 0.25, {"reward": 0.25})
    assert (outcome.end_reason, outcome.error) == ("storage", "")
    assert "more than storage_mb = 20 was written" in outcome.note


def test_the_solutions_of_all_steps_prove_the_task(write):
    task, provider = load_task(write()), DockerProvider()
    provider.prepare(task)
    (check,) = Checker(provider, Scale(solved_at=0.75), jobs=1).check([task])
    assert (check.verdict, check.solution.reward, check.nothing.reward) == ("proved", 0.75, 0.0)
    (check,) = Checker(provider, Scale(), jobs=1).check([task])
    assert check.verdict == "unfit"
    assert "the verifier of step second ended with exit code 0 and printed nothing" in check.solution.evidence


def test_a_step_that_the_solution_does_not_reach_is_not_proved(write):
    task, provider = load_task(write(least=0.6)), DockerProvider()
    provider.prepare(task)
    (check,) = Checker(provider, Scale(solved_at=0.5), jobs=1).check([task])
    assert (check.verdict, check.solution.solved, check.solution.unreached) == ("unfit", True, "second")
    assert "does not reach the step second, whose verifier is never seen to be content" in check.problem
    assert "in the step first: reward 0.5, and min_reward asks for 0.6" in check.solution.evidence
