"""Runs a task's own solution, as an agent that knows the answer would."""

from __future__ import annotations

import shlex
from pathlib import Path

from capvec.records import CommandResult
from capvec.sandbox.base import Sandbox
from capvec.task_records import Task, TaskStep


def has_solution(task: Task) -> bool:
    """Whether the task brings a solution of every step."""
    return all((_folder(task, step) / "solve.sh").is_file() for step in task.steps)


def solve(sandbox: Sandbox, task: Task, step: TaskStep) -> CommandResult:
    """Run `solve.sh` of a step, within the agent's time; how it ends does not say whether the step is solved.

    It is a command in the agent's shell, so that what it leaves running goes on as what an agent leaves running.

    Raises:
        SandboxUnavailable: the sandbox is gone.
    """
    sandbox.upload(_folder(task, step), "/solution")
    variables = [f"{name}={value}" for name, value in task.solution_env.items()]
    command = shlex.join((*(["env", *variables] if variables else ()), "bash", "-c", "/solution/solve.sh"))
    return sandbox.run(command, timeout_s=step.agent.timeout_s)


def _folder(task: Task, step: TaskStep) -> Path:
    """That of the step, or the task's where the step has none."""
    own = task.path / "steps" / step.name / "solution"
    return own if step.name and own.is_dir() else task.path / "solution"
