"""Agents that cheat or break their sandbox: what they left is judged, and is neither a reward nor an error."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import pytest
from support.attacks import BREAKS, LIMIT_S, cheats

from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.verifier import verify
from capvec.task_records import Task
from capvec.tasks.loader import load_tasks

pytestmark = pytest.mark.siege
RUN = f"test-attacks-{os.getpid()}"
TASKS = {task.metadata["family"]: task for task in load_tasks("full").tasks if task.name.endswith("-1")}
QUICK = ("append-line",)
"""Task families whose cheats are tried in the quick part."""


def judged_beside(task: Task) -> Task:
    """The task with its verifier in the agent's container."""
    return replace(task, verifier=replace(task.verifier, environment=None))


@pytest.mark.parametrize(
    "family",
    [pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in TASKS],
)
def test_no_cheat_earns_a_reward(family):
    """All in one sandbox: the verifier runs elsewhere, and changes nothing in it."""
    task = TASKS[family]
    DockerProvider().prepare(task)
    rewards = {}
    with DockerProvider().open(task, run=RUN, trial=family) as sandbox:
        sandbox.run("cp -a /app /pristine", timeout_s=20)
        for what, command in cheats(task).items():
            sandbox.run(f"cd /; rm -rf /app /tests /logs/*/*; cp -a /pristine /app; cd /app; {command}", timeout_s=10)
            rewards[what] = verify(sandbox, task).rewards["reward"]
            sandbox.run("kill -9 $(jobs -p); kill -9 -1", timeout_s=10)
    assert [what for what, reward in rewards.items() if reward] == []


@pytest.mark.slow
@pytest.mark.parametrize("form", [judged_beside, lambda task: task], ids=["beside the agent", "apart"])
@pytest.mark.parametrize("what", BREAKS)
def test_what_a_broken_sandbox_holds_is_judged(what, form):
    task = form(TASKS["append-line"])
    DockerProvider().prepare(task)
    with DockerProvider().open(task, run=RUN, trial="broken") as sandbox:
        for command in BREAKS[what]:
            sandbox.run(command, timeout_s=LIMIT_S)
        assert verify(sandbox, task).rewards == {"reward": 0.0}


@pytest.mark.slow
def test_that_nothing_can_be_run_any_more_is_found_out_once():
    """Programs wait for ever for a pipe that their loader opens."""
    task = judged_beside(TASKS["append-line"])
    DockerProvider().prepare(task)
    with DockerProvider().open(task, run=RUN, trial="once") as sandbox:
        for command in BREAKS["a preloaded pipe"]:
            sandbox.run(command, timeout_s=LIMIT_S)
        began = time.monotonic()
        for _ in range(10):
            assert sandbox.run("echo after", timeout_s=LIMIT_S).exit_code == 127
        assert time.monotonic() - began < 10
        assert verify(sandbox, task).rewards == {"reward": 0.0}
