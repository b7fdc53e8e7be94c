"""Judging an attempt, and telling a verifier that failed by itself from one that the agent broke.

A verifier that writes no reward, or a low one after its own tools failed, has not judged the attempt. Whose fault that
is cannot be read from what it printed, since the agent was root beside it. So a control is run, out of the agent's
reach: the same verifier in a fresh container of the same image, after the task's own solution, or after nothing where
there is none.

- The control fails too: the instrument is at fault, and the trial is an `error`.
- The control is as it should be: the verifier works here and now, and judges the attempt once more, since the fault may
  have passed. If it fails again, what differs is the agent's work, and the trial is unsolved.
"""

from __future__ import annotations

from dataclasses import dataclass

from capvec.errors import VerifierFault
from capvec.records import Task
from capvec.sandbox.base import Sandbox, SandboxProvider
from capvec.sandbox.solution import has_solution, solve
from capvec.sandbox.symptoms import symptoms
from capvec.sandbox.verifier import verify

SOLVED_AT = 1.0
"""The reward from which a trial counts as solved, as in Harbor's pass rate."""


@dataclass(frozen=True)
class Control:
    """Where a control runs, and under which names."""

    sandboxes: SandboxProvider
    run: str
    trial: str

    def fault(self, task: Task) -> str:
        """Run the verifier where no agent was. Returns how it failed; empty if it is as it should be.

        Raises:
            SandboxUnavailable: nothing can run sandboxes.
        """
        with self.sandboxes.open(task, run=self.run, trial=f"{self.trial}-control") as sandbox:
            solved = has_solution(task)
            if solved:
                solve(sandbox, task)
            judged, doubt = _verify(sandbox, task)
        if solved:
            after = "after the task's own solution, too"
            return "" if judged is not None and judged >= SOLVED_AT else f"{after}: {doubt or f'reward {judged:g}'}"
        return f"where nothing was done, too: {doubt}" if doubt else ""


def judge(sandbox: Sandbox, task: Task, control: Control) -> tuple[float, str]:
    """Run the task's verifier, and a control where it seems to have failed.

    Args:
        sandbox: the agent's, after the agent has ended.
        task: that was worked on.
        control: how to run a control.

    Returns:
        The reward; and why the attempt counts as judged although the verifier failed, empty where it did not.

    Raises:
        VerifierFault: the verifier failed, and not by the agent's work.
        SandboxUnavailable: a sandbox is gone or cannot be restored.
    """
    reward, doubt = _verify(sandbox, task)
    if reward is not None and not doubt:
        return reward, ""
    if fault := control.fault(task):
        raise VerifierFault(f"{doubt}; and {fault}")
    reward, doubt = _verify(sandbox, task)
    return reward or 0.0, doubt and f"the verifier fails only on what the agent left: {doubt}"


def _verify(sandbox: Sandbox, task: Task) -> tuple[float | None, str]:
    """The reward, None if there is none; and why it is in doubt, empty if it is not."""
    try:
        judged = verify(sandbox, task)
    except VerifierFault as fault:
        return None, str(fault)
    found = () if judged.reward >= SOLVED_AT else symptoms(judged.ran)
    words = "; ".join(map(str, found))
    return (
        judged.reward,
        words and f"the verifier's own tools failed, and it wrote the reward {judged.reward:g}: {words}",
    )
