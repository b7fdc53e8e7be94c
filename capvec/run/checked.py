"""What a check of a task found, and what is wrong with the task, in words."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Self

from capvec.decimals import as_written
from capvec.errors import InfrastructureError, UsageError
from capvec.sandbox.symptoms import NETWORK, PERMISSION, Symptom
from capvec.serial import Record
from capvec.task_records import Task
from capvec.text import counted, one_line, printable

UNMADE = "its environment cannot be made"


@dataclass(frozen=True)
class Attempt(Record):
    """One attempt at a task, and what the verifier made of it."""

    reward: float | None
    """The one that counts; None where the verifier gave no usable one."""
    solved: bool = False
    evidence: tuple[str, ...] = ()
    """How the programs ended and the last lines that they printed."""
    symptoms: tuple[Symptom, ...] = ()
    """Signs that tools failed."""
    ended: bool = False
    """Whether processes that it had left running were ended before the verifier ran."""
    unreached: str = ""
    """Name of the first step that it did not reach, since a reward of the one before was below its `min_reward`."""
    closed: str = ""
    """What of the working directory an agent that is root could not write; empty where that was not looked for."""

    @property
    def shown(self) -> str:
        return "none" if self.reward is None else as_written(self.reward)


@dataclass(frozen=True)
class TaskCheck(Record):
    """What the check of one task found."""

    task: str
    nothing: Attempt
    """Of an agent that does nothing."""
    solution: Attempt | None
    """Of the task's own solution; None where it has none."""
    seconds: float
    networked: bool
    """Whether any of it reaches the public network."""
    capable: bool = False
    """Whether its containers had the capabilities of a plain Docker container."""
    solved_at: float = 1.0
    """The least reward that counts as solved."""
    kept: Attempt | None = None
    """Of its solution where processes live on beside the verifier; None unless that may be what its solution lacks."""
    fault: str = ""
    """Why there is no result, in a few words; empty if there is one."""

    @classmethod
    def without(cls, task: Task, error: UsageError | InfrastructureError, fault: str = UNMADE) -> Self:
        """That of a task without a result, such as one whose container cannot be had or does not become ready."""
        lines = tuple(printable(str(error)).splitlines())
        return cls(task.name, Attempt(None, evidence=lines), None, 0.0, networked=False, fault=fault)

    @property
    def problem(self) -> str:
        """Why nothing can be measured with the task, in a few words; empty if it is fit."""
        return "; ".join(words for words, _ in self._problems())

    @property
    def verdict(self) -> Literal["proved", "unproved", "unfit"]:
        """`unproved` is a task without a solution that is not known to be unfit."""
        return "unfit" if self.problem else "unproved" if self.solution is None else "proved"

    def lines(self) -> Iterator[str]:
        """What is wrong, with the evidence below each problem, and how to mend it."""
        for words, attempt in self._problems():
            yield f"{self.task}: {words}"
            yield from (f"    {line}" for line in attempt.evidence)
            yield from (f"  → {symptom}{self._advice(symptom)}" for symptom in attempt.symptoms)
            if attempt is self.solution:
                if self.kept is not None and self.kept.solved:
                    yield (
                        f"  → with --keep-processes, which lets processes that it leaves running live on beside the "
                        f"verifier, its own solution is judged {self.kept.shown}"
                    )
                yield f"  → {self._allowed}"

    @property
    def reason(self) -> str:
        """The problem with its evidence, on one line."""
        if self.fault:
            return one_line(f"{self.problem}: {self.nothing.evidence[0]}")
        return one_line("; ".join(line.strip() for line in self.lines()).removeprefix(f"{self.task}: "))

    @property
    def _allowed(self) -> str:
        """What its containers were allowed, and what would allow more."""
        powers = (
            "the Linux capabilities of a plain container"
            if self.capable
            else "no Linux capabilities (see --capabilities)"
        )
        network = "a public network" if self.networked else "no network (network_mode in its task.toml)"
        return f"its containers had {powers} and {network}"

    def _problems(self) -> Iterator[tuple[str, Attempt]]:
        nothing, solution, least = self.nothing, self.solution, as_written(self.solved_at)
        if self.fault:
            yield self.fault, nothing
            return
        if nothing.closed:
            sign = Symptom(PERMISSION, f"{one_line(nothing.closed)} in its working directory is another user's")
            yield "its agent is root, and cannot write what root can in Harbor", Attempt(None, symptoms=(sign,))
        if solution is not None and solution.reward is None:
            yield "after its own solution, its verifier gives no reward", solution
        elif nothing.reward is None:
            yield "where nothing is done, its verifier gives no reward", nothing
        elif solution is not None and solution.unreached:
            yield (
                f"its own solution does not reach the step {solution.unreached}, whose verifier is never seen to be "
                "content: the step before does not earn its min_reward",
                solution,
            )
        elif solution is not None and not solution.solved:
            yield (
                f"its own solution is judged {solution.shown}, and must be judged at least {least}",
                solution,
            )
        elif solution is None and nothing.symptoms:
            yield f"it has no solution, and its verifier's own tools seem to fail: {nothing.symptoms[0]}", nothing
        if nothing.solved:
            yield (
                f"doing nothing is judged {nothing.shown}, and must be judged below {least}",
                nothing,
            )

    def _advice(self, symptom: Symptom) -> str:
        if symptom.kind == NETWORK and not self.networked:
            return ': network_mode = "public" in its task.toml, and --allow-network, give it a network'
        if symptom.kind == PERMISSION and not self.capable:
            return ": --capabilities default gives its containers those of a plain Docker container"
        return ""


def refusal(checks: Sequence[TaskCheck], of: int, options: str) -> UsageError:
    """The error for tasks with which nothing can be measured.

    Args:
        checks: of these tasks.
        of: how many tasks there are.
        options: what the user may type instead of mending them.
    """
    listed = "".join(f"\n  {line}" for check in checks for line in check.lines())
    return UsageError(
        f"{len(checks)} of {counted(of, 'task')} cannot tell a right answer from a wrong one here; expected tasks "
        f"whose own solution is judged solved, and doing nothing is not. Mend them, or {options}:{listed}"
    )
