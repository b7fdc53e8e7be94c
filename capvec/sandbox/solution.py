"""Runs a task's own solution, as an agent that knows the answer would."""

from __future__ import annotations

from capvec.records import CommandResult, Task
from capvec.sandbox.base import Sandbox


def has_solution(task: Task) -> bool:
    """Whether the task brings a solution."""
    return (task.path / "solution" / "solve.sh").is_file()


def solve(sandbox: Sandbox, task: Task) -> CommandResult:
    """Run `solution/solve.sh`, within the agent's time; how it ends does not say whether the task is solved.

    Raises:
        SandboxUnavailable: the sandbox is gone.
    """
    sandbox.upload(task.path / "solution", "/solution")
    command = ("bash", "/solution/solve.sh")
    return sandbox.execute(command, timeout_s=task.agent.timeout_s, env=dict(task.solution_env))
