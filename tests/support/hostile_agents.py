"""Trials of hostile agents, whose commands are given, in real containers."""

from __future__ import annotations

import os
from pathlib import Path

from capvec.plan.plan import Plan, Settings
from capvec.records import Config, Outcome, TrialSpec
from capvec.run.trial import TrialRunner
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Task
from capvec.tasks import load_task
from dev.agent.scripted_model import ScriptedModel
from support.tasks import CLOSED, make_task

RUN = f"hostile-{os.getpid()}"
STORAGE_MB, MEMORY_MB, PIDS = 256, 128, 64
LIMITS = (
    f"storage_mb = {STORAGE_MB}\nmemory_mb = {MEMORY_MB}\n[agent]\ntimeout_sec = 60\n[metadata.capvec]\npids = {PIDS}\n"
)
HONEST = "echo right > /app/answer"


def write_task(parent: Path) -> Task:
    """A task whose agent writes `right` into /app/answer, within limits that are soon reached."""
    folder = make_task(parent, "answer", CLOSED + LIMITS)
    test = "grep -qx right /app/answer\necho $((1 - $?)) > /logs/verifier/reward.txt\n"
    (folder / "tests" / "test.sh").write_text(test)
    (folder / "solution" / "solve.sh").write_text(f"{HONEST}\n")
    return load_task(folder)


def trial(task: Task, *commands: str, attempt: int = 1) -> Outcome:
    """The outcome of an agent that runs these commands, one in each reply."""
    spec, config = TrialSpec(task.name, "baseline", attempt, 0), Config("baseline", "baseline")
    settings = Settings("m", "bash-block", "zero-shot", len(commands) + 1, 32, 0.7)
    plan = Plan(RUN, task.path.parent, (task,), (config,), (spec,), settings)
    model = ScriptedModel([*(f"```bash\n{command}\n```" for command in commands), "DONE"])
    return TrialRunner(plan, model, DockerProvider()).run(spec)
