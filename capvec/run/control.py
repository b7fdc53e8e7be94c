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

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from capvec.errors import VerifierFault
from capvec.records import Task
from capvec.sandbox.base import Sandbox, SandboxProvider
from capvec.sandbox.reward import counted
from capvec.sandbox.solution import has_solution, solve
from capvec.sandbox.symptoms import symptoms
from capvec.sandbox.verifier import verify


@dataclass(frozen=True)
class Scale:
    """Which reward counts, and from where on an attempt is solved."""

    reward: str | None = None
    """Its name; None for `reward`, or the only one."""
    solved_at: float = 1.0


@dataclass(frozen=True)
class Judged:
    """How an attempt was judged."""

    reward: float = 0.0
    """The one that counts."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """All of them by name."""
    solved: bool = False
    note: str = ""
    """Why it counts as judged although the verifier failed; empty where it did not."""


@dataclass(frozen=True)
class Control:
    """Where a control runs, under which names, and by which rewards it goes."""

    sandboxes: SandboxProvider
    run: str
    trial: str
    scale: Scale

    def fault(self, task: Task) -> str:
        """Run the verifier where no agent was. Returns how it failed; empty if it is as it should be.

        Raises:
            SandboxUnavailable: nothing can run sandboxes.
        """
        with self.sandboxes.open(task, run=self.run, trial=f"{self.trial}-control") as sandbox:
            solution = has_solution(task)
            if solution:
                solve(sandbox, task)
            judged, doubt = _verify(sandbox, task, self.scale)
        if not solution:
            return f"where nothing was done, too: {doubt}" if doubt else ""
        if judged is not None and judged.solved:
            return ""
        return f"after the task's own solution, too: {doubt or 'it is not judged solved'}"


def judge(sandbox: Sandbox, task: Task, control: Control) -> Judged:
    """Run the task's verifier, and a control where it seems to have failed.

    Args:
        sandbox: the agent's, after the agent has ended.
        task: that was worked on.
        control: how to run a control.

    Raises:
        VerifierFault: the verifier failed, and not by the agent's work.
        SandboxUnavailable: a sandbox is gone or cannot be restored.
    """
    judged, doubt = _verify(sandbox, task, control.scale)
    if judged is not None and not doubt:
        return judged
    if fault := control.fault(task):
        raise VerifierFault(f"{doubt}; and {fault}")
    judged, doubt = _verify(sandbox, task, control.scale)
    note = f"the verifier fails only on what the agent left: {doubt}" if doubt else ""
    return replace(judged or Judged(), note=note)


def _verify(sandbox: Sandbox, task: Task, scale: Scale) -> tuple[Judged | None, str]:
    """How the attempt is judged, None where it is not; and why that is in doubt, empty if it is not."""
    try:
        verified = verify(sandbox, task)
        reward = counted(verified.rewards, scale.reward)
    except VerifierFault as fault:
        return None, str(fault)
    judged = Judged(reward, verified.rewards, reward >= scale.solved_at)
    signs = "" if judged.solved else "; ".join(map(str, symptoms(verified.ran)))
    return judged, signs and f"the verifier's tools failed, and it wrote the reward {reward:g}: {signs}"
