"""Judging an attempt, and telling a verifier that failed by itself from one that the agent broke.

A verifier that writes no reward, or a low one after its own tools failed, has not judged the attempt; nor has one whose
container cannot be made ready, although Docker answers. Commands of `verifier.collect` in services beside the agent's
container are among its tools. Whose fault that is cannot be read from what was printed, since the agent was root beside
it. So a control is run, out of the agent's reach: the same verifier in a fresh container of the same image, after the
task's own solution, or after nothing where there is none.

- The control fails too: the instrument is at fault, and the trial is an `error`.
- The control is as it should be: the verifier works here and now. One with a container of its own judges the same copy
  of the work once more, since the fault may have passed. One in the agent's container does not: it would judge what its
  first run changed, and an agent would have two tries. What it found stands, and the note says what failed. Where
  Docker refused what was asked of the agent's container, it is asked once more in any case: it may have failed by
  itself, and the control has shown that it is well by now.

What cannot be judged because of the agent's work earns 0, or what doing nothing earns if that is less: a second
control tells, for that step and for those that would have followed. So it earns no more than stopping before it.

A task with several steps is judged step by step. The control of a step is the whole task's solution; without one,
nothing is done up to that step. A step that cannot begin on what the agent left is told from a broken one likewise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import NamedTuple

from capvec.decimals import reaches
from capvec.errors import SandboxBroken, StepFault, StorageExceeded, VerifierFault
from capvec.records import ONLY_HERE, CommandResult
from capvec.sandbox.base import Sandbox, SandboxProvider
from capvec.sandbox.evidence import Evidence, saved
from capvec.sandbox.reward import counted, of_steps
from capvec.sandbox.solution import has_solution, solve
from capvec.sandbox.steps import begin, goes_on
from capvec.sandbox.symptoms import symptoms
from capvec.sandbox.verifier import verify
from capvec.task_records import Task, TaskStep


@dataclass(frozen=True)
class Judged:
    """How an attempt was judged, up to the last step that was reached."""

    reward: float = 0.0
    """The one that counts."""
    rewards: Mapping[str, float] = field(default_factory=dict)
    """All of them by name."""
    solved: bool = False
    note: str = ""
    """What became of the agent's work before the verifier saw it, and why the attempt counts as judged although the
    verifier failed; empty for a solved attempt."""
    steps: tuple[Mapping[str, float], ...] = ()
    """The rewards of each step; empty for one that the agent made impossible to judge, which ends the attempt."""


@dataclass(frozen=True)
class Scale:
    """Which reward counts, and from where on an attempt is solved."""

    reward: str | None = None
    """Its name; None for `reward`, or the only one."""
    solved_at: float = 1.0

    def judged(
        self,
        task: Task,
        steps: Sequence[Mapping[str, float]],
        note: str = "",
        floors: Sequence[Mapping[str, float]] = (),
    ) -> Judged:
        """The task's rewards from those of the steps so far. A reward that no step reached so far wrote is 0.

        Args:
            task: that was worked on.
            steps: the rewards of each step so far; empty for one that could not be judged.
            note: for the outcome.
            floors: where the last of these could not be judged, what it earns, and what each step after it earns.

        Raises:
            VerifierFault: every step was judged, and the reward that counts is missing.
        """
        rewards = of_steps((*steps[:-1], *floors) if floors else steps, task.step_reward)
        try:
            reward = counted(rewards, self.reward) if rewards else 0.0
        except VerifierFault:
            if len(steps) == len(task.steps) and all(steps):
                raise
            reward = 0.0
        return Judged(reward, rewards, all(steps) and reaches(reward, self.solved_at), note, tuple(steps))

    def of_step(self, rewards: Mapping[str, float]) -> float:
        """What a single step earned; 0 where it did not write the reward that counts."""
        try:
            return counted(rewards, self.reward)
        except VerifierFault:
            return 0.0


@dataclass(frozen=True)
class Control:
    """Where a control runs, under which names, and by which rewards it goes."""

    sandboxes: SandboxProvider
    run: str
    trial: str
    scale: Scale

    def fault(self, task: Task, before: Sequence[Mapping[str, float]] = ()) -> str:
        """Run the verifier where no agent was. Returns how it failed; empty if it is as it should be.

        Args:
            task: whose verifier it is.
            before: the rewards of the steps before the one whose verifier is in doubt.

        Raises:
            StepFault: a step cannot begin there either.
            SandboxUnavailable: nothing can run sandboxes.
        """
        try:
            with self.sandboxes.open(task, run=self.run, trial=f"{self.trial}-control") as sandbox:
                if not has_solution(task):
                    doubt = self._after_nothing(sandbox, task, before)
                    return f"where nothing was done, too: {doubt}" if doubt else ""
                judged, doubt = self._after_solution(sandbox, task)
        except StorageExceeded as exceeded:
            return f"where no agent was, too: {exceeded}"
        if judged is not None and judged.solved:
            return ""
        return f"after the task's own solution, too: {doubt or 'it is not judged solved'}"

    def unjudged(self, task: Task, before: Judged, note: str) -> Judged:
        """How an attempt is judged whose next step cannot be, because of what the agent left.

        Args:
            task: that was worked on.
            before: how it was judged up to that step.
            note: why the step cannot be judged.

        Raises:
            VerifierFault: what writes too much to the disk is the task itself.
            StepFault: the step cannot begin where no agent was.
            SandboxUnavailable: nothing can run sandboxes.
        """
        try:
            floors = self._floors(task, len(before.steps))
        except StorageExceeded as exceeded:
            raise VerifierFault(f"{note}; and where no agent was, too: {exceeded}") from exceeded
        return self.scale.judged(task, (*before.steps, {}), _notes(before, note), floors)

    def _floors(self, task: Task, done: int) -> list[Mapping[str, float]]:
        """What doing nothing earns in each step from one on, and at most 0; empty where that cannot be told.

        The `done` steps before are done by their solutions, or else not.
        """
        floors = list[Mapping[str, float]]()
        with self.sandboxes.open(task, run=self.run, trial=f"{self.trial}-control") as sandbox:
            try:
                for step in task.steps[:done]:
                    begin(sandbox, task, step)
                    if has_solution(task):
                        solve(sandbox, task, step)
                for step in task.steps[done:]:
                    begin(sandbox, task, step)
                    rewards = verify(sandbox, task, step).rewards
                    floors.append({name: min(reward, 0.0) for name, reward in rewards.items()})
                    if not goes_on(step, rewards):
                        break
            except VerifierFault:
                floors += [{}] * (len(task.steps) - done - len(floors))
            except StepFault:
                if has_solution(task) and not floors:
                    raise
                floors += [{}] * (len(task.steps) - done - len(floors))  # they need what was not done before
        return floors

    def _after_solution(self, sandbox: Sandbox, task: Task) -> tuple[Judged | None, str]:
        so_far = Judged()
        for step in task.steps:
            begin(sandbox, task, step)
            solve(sandbox, task, step)
            judged, doubt = _verify(sandbox, task, so_far.steps, self.scale)
            if judged is None:
                return None, doubt
            so_far = judged
            if not goes_on(step, judged.steps[-1]):
                break
        return so_far, doubt

    def _after_nothing(self, sandbox: Sandbox, task: Task, before: Sequence[Mapping[str, float]]) -> str:
        for step in task.steps[: len(before) + 1]:
            begin(sandbox, task, step)
        _, doubt = _verify(sandbox, task, before, self.scale)
        return doubt


def ready(sandbox: Sandbox, task: Task, control: Control, before: Judged) -> Judged | None:
    """Begin the next step of an attempt. Returns how the attempt is judged where what the agent left prevents it.

    Args:
        sandbox: the agent's.
        task: that is worked on.
        control: how to run a control.
        before: how the attempt was judged so far.

    Raises:
        StepFault: the step cannot begin, and not by the agent's work.
        VerifierFault: the same, and a verifier failed where no agent was.
        SandboxUnavailable: a sandbox is gone or cannot be restored.
    """
    step = task.steps[len(before.steps)]
    if (hindrance := _hindrance(sandbox, task, step)) is None:
        return None
    if not before.steps:
        raise hindrance
    if other := control.fault(task, before.steps):
        raise VerifierFault(f"{hindrance}; and {other}") from hindrance
    if isinstance(hindrance, SandboxBroken):
        hindrance = _hindrance(sandbox, task, step)
    return None if hindrance is None else control.unjudged(task, before, f"on what the agent left, {hindrance}")


def _hindrance(sandbox: Sandbox, task: Task, step: TaskStep) -> StepFault | SandboxBroken | None:
    """Begin a step. Returns what prevents it."""
    try:
        begin(sandbox, task, step)
    except (StepFault, SandboxBroken) as fault:
        return fault
    return None


def judge(sandbox: Sandbox, task: Task, control: Control, before: Judged | None = None) -> Judged:
    """Run the verifier of a step, and a control where it seems to have failed.

    Args:
        sandbox: the agent's, after the agent has ended.
        task: that was worked on.
        control: how to run a control.
        before: how the attempt was judged before this step; None at the first.

    Raises:
        VerifierFault: the verifier failed, and not by the agent's work.
        StepFault: a step cannot begin where no agent was.
        SandboxUnavailable: a sandbox is gone or cannot be restored.
    """
    before = before or Judged()
    with ExitStack() as cleanup:
        look = _look(sandbox, task, before.steps, control.scale, cleanup)
        if look.judged is not None and not look.doubt:
            return replace(look.judged, note="" if look.judged.solved else _notes(before, look.judged.note))
        if fault := control.fault(task, before.steps):
            raise VerifierFault(f"{look.doubt}; and {fault}")
        if look.refused or task.steps[len(before.steps)].verifier.environment is not None:
            if look.evidence is not None:
                look.evidence.renew()
            look = _look(sandbox, task, before.steps, control.scale, cleanup, look.evidence)
    note = f"{ONLY_HERE}: {look.doubt}" if look.doubt else ""
    if look.judged is None:
        return control.unjudged(task, before, note)
    return replace(look.judged, note="" if look.judged.solved else _notes(before, look.judged.note, note))


def _notes(before: Judged, *notes: str) -> str:
    return "; ".join(filter(None, (before.note, *notes)))


class _Look(NamedTuple):
    """What a verifier found."""

    judged: Judged | None
    """How the attempt is judged; None where it is not."""
    doubt: str
    """Why that is in doubt; empty if it is not."""
    evidence: Evidence | None = None
    """What was saved of the step; None where it cannot be."""
    refused: bool = False
    """Whether Docker refused what was asked of a container."""


def _verify(
    sandbox: Sandbox, task: Task, before: Sequence[Mapping[str, float]], scale: Scale
) -> tuple[Judged | None, str]:
    """As `_look`, once."""
    with ExitStack() as cleanup:
        look = _look(sandbox, task, before, scale, cleanup)
    return look.judged, look.doubt


def _look(
    sandbox: Sandbox,
    task: Task,
    before: Sequence[Mapping[str, float]],
    scale: Scale,
    cleanup: ExitStack,
    evidence: Evidence | None = None,
) -> _Look:
    """Run the verifier of a step.

    Args:
        sandbox: after the step's agent has ended.
        task: that was worked on.
        before: the rewards of each step before.
        scale: by which the attempt is judged.
        cleanup: removes what is saved of the step.
        evidence: what was saved of it; None to save it now.
    """
    step = task.steps[len(before)]
    try:
        evidence = evidence or cleanup.enter_context(saved(sandbox, task, step))
        verified = verify(sandbox, task, step, evidence)
        judged = scale.judged(task, (*before, verified.rewards), "; ".join(verified.notes))
    except VerifierFault as fault:
        return _Look(None, "; ".join((*fault.notes, str(fault))), evidence)
    except SandboxBroken as fault:
        return _Look(None, str(fault), evidence, refused=True)
    reward = scale.of_step(verified.rewards)
    found = (*symptoms(verified.ran), *symptoms(CommandResult(verified.logs, None)))
    signs = "" if reaches(reward, scale.solved_at) else "; ".join((*verified.failed, *map(str, found)))
    doubt = signs and f"the verifier's tools failed, and it wrote the reward {reward:g}: {signs}"
    return _Look(judged, doubt, evidence)
