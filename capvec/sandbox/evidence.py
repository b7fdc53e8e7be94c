"""Saves what an attempt is judged by, before the verifier runs: as in Harbor, in this order.

1. The commands of `verifier.collect` run in the agent's container.
2. If the verifier has a container of its own, the agent's artifacts are copied. What the agent left running is ended
   before, if it is all that runs there and nothing needs the container any more.
3. The agent's container is stopped if nothing needs it any more, so that no process of the agent's reaches a service.
4. The commands of services beside it run there, and the artifacts of these are copied.

A command that fails ends nothing: the verifier judges what is there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from typing import BinaryIO

from capvec.records import CommandResult
from capvec.sandbox.artifacts import PUBLISHED, artifacts_of, given_way, is_reserved, reserved_in
from capvec.sandbox.base import MAIN, MOST_BYTES, MOST_FILES, Budget, Sandbox
from capvec.task_records import Artifact, Collect, Task, TaskStep
from capvec.text import one_line

_SHOWN = 5
"""Last lines of a command's output to show."""
_BASH = 'if command -v bash >/dev/null; then exec bash -c "$1"; else exec sh -c "$1"; fi'
"""The shell that Harbor has for commands in the agent's container; the image may lack it."""


@dataclass(frozen=True)
class _Saved:
    """What was saved of some services."""

    archives: Mapping[Artifact, BinaryIO] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    failed: tuple[str, ...] = ()


class Evidence:
    """What is saved of one step of an attempt. It stays the same however often the step is judged."""

    def __init__(self, sandbox: Sandbox, task: Task, step: TaskStep, cleanup: ExitStack) -> None:
        """Save it.

        Args:
            sandbox: the agent's, after the agent has ended.
            task: that was worked on.
            step: of the task.
            cleanup: removes the copies from this machine when it ends.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        self._sandbox, self._step, self._cleanup = sandbox, step, cleanup
        self._apart = step.verifier.environment is not None
        self._last = self._apart and step == task.steps[-1]
        self._left = Budget()
        self._main = self._save(lambda service: service == MAIN, self._left)
        self._beside = _Saved()
        if self._asks_services:
            if self._last:
                sandbox.stop()
            self._save_services()

    @property
    def notes(self) -> tuple[str, ...]:
        """A sentence for each command that failed, and for each declared artifact that was not copied."""
        return (*self._main.notes, *self._beside.notes)

    @property
    def failed(self) -> tuple[str, ...]:
        """The notes of commands that failed in services beside the agent's container: not by the agent alone."""
        return self._beside.failed

    def renew(self) -> None:
        """Save anew what services hold if one of their commands failed, since a fault may pass."""
        if self.failed:
            self._save_services()

    def place(self, target: Sandbox) -> None:
        """Put the artifacts into a verifier's sandbox, at the same paths and in the order of the task."""
        archives = {**self._main.archives, **self._beside.archives}
        for archive in archives.values():
            archive.seek(0)
        target.place([(one.source, archives[one]) for one in artifacts_of(self._step) if one in archives])

    @property
    def _asks_services(self) -> bool:
        named = [hook.service for hook in self._step.verifier.collect]
        named += [artifact.service for artifact in self._step.artifacts if self._apart]
        return any(service != MAIN for service in named)

    def _save_services(self) -> None:
        self._beside = self._save(lambda service: service != MAIN, replace(self._left))

    def _save(self, chosen: Callable[[str], bool], budget: Budget) -> _Saved:
        """Run the commands of the chosen services, then copy the artifacts of these."""
        failed = tuple(self._collect([hook for hook in self._step.verifier.collect if chosen(hook.service)]))
        if self._last and chosen(MAIN):
            self._sandbox.retire()
        archives: dict[Artifact, BinaryIO] = {}
        notes = list(failed)
        way = given_way(self._step)
        for artifact in artifacts_of(self._step) if self._apart else ():
            if not chosen(artifact.service):
                continue
            if reserved := reserved_in(artifact):
                notes.append(
                    f"of the artifact {_named(artifact)} nothing in {', '.join(reserved)} was copied, which is the "
                    "verifier's own"
                )
            if is_reserved(artifact):
                continue
            archive = None if artifact in way else self._sandbox.take(artifact, budget)
            if archive is not None:
                self._cleanup.callback(archive.close)
                archives[artifact] = archive
            elif artifact != Artifact(PUBLISHED) or budget.spent:  # the folder is there, unless the agent removed it
                notes.append(f"the artifact {_named(artifact)} {_why_not(artifact, way, budget)} and was not copied")
        return _Saved(archives, tuple(notes), failed)

    def _collect(self, hooks: Sequence[Collect]) -> Iterator[str]:
        """Run commands. Yields a sentence for each that failed."""
        for hook in hooks:
            if hook.service == MAIN:
                self._sandbox.enter(user=hook.user, network=None)
                ran = self._sandbox.execute(("sh", "-c", _BASH, "sh", hook.command), timeout_s=hook.timeout_s)
            else:
                ran = self._sandbox.execute_beside(hook.service, hook.command, timeout_s=hook.timeout_s, user=hook.user)
            if ran.exit_code != 0:
                yield _failure(hook, ran)


def make_room(target: Sandbox, step: TaskStep) -> None:
    """Remove what a verifier's own sandbox has at the paths of a step's artifacts. Raises as `Sandbox.make_room`."""
    target.make_room([one.source for one in artifacts_of(step) if not is_reserved(one)])


@contextmanager
def saved(sandbox: Sandbox, task: Task, step: TaskStep) -> Iterator[Evidence]:
    """The evidence of a step, removed when the context ends. Raises as `Evidence`."""
    with ExitStack() as cleanup:
        yield Evidence(sandbox, task, step, cleanup)


def _failure(hook: Collect, ran: CommandResult) -> str:
    """Which command failed, how, and what to do about it."""
    ended, mend = f"ended with exit code {ran.exit_code}", "mend the command or the service"
    if ran.timed_out:
        ended, mend = f"ran longer than its timeout_sec, {hook.timeout_s:g} s,", "raise timeout_sec"
    lines = " / ".join(one_line(line) for line in ran.output.strip().splitlines()[-_SHOWN:])
    return (
        f"verifier.collect: {one_line(hook.command)!r} in the service {hook.service} {ended} and printed "
        f"{f'at last: {lines}' if lines else 'nothing'}, so the verifier may miss what it saves: where the task's own "
        f"solution meets this too, {mend}"
    )


def _named(artifact: Artifact) -> str:
    return artifact.source if artifact.service == MAIN else f"{artifact.source} of the service {artifact.service}"


def _why_not(artifact: Artifact, way: Mapping[Artifact, Artifact], budget: Budget) -> str:
    if artifact in way:
        return f"would lie in the place of {_named(way[artifact])}, which comes first,"
    if budget.spent:
        return f"goes beyond {MOST_BYTES >> 20} MiB or {MOST_FILES} files"
    return "is missing, or lies behind a link,"
