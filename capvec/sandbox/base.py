"""What a trial needs of a sandbox, whatever runs it."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from capvec.records import CommandResult, Task


class Sandbox(Protocol):
    """One isolated machine for one trial. Every method raises `SandboxUnavailable` when the sandbox itself is gone."""

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command in the trial's persistent shell: `cd`, variables and functions survive to the next call.

        A command that outlives `timeout_s` is killed inside the sandbox, with everything it started.
        Output is stdout and stderr in order, capped head and tail. A failing command is a result, not an exception.
        """
        ...

    def execute(self, argv: tuple[str, ...], *, timeout_s: float, env: dict[str, str] | None = None) -> CommandResult:
        """Run a program in a fresh process, untouched by the persistent shell (for verifiers and solutions)."""
        ...

    def take_back(self) -> tuple[str, ...]:
        """Take the machine from the agent, so that a verifier in it can be believed. Returns the paths put back.

        Everything that it left running is killed, and what it did to the system's own files is undone: the commands,
        their libraries, and what else decides which program a name stands for. Its other files stay as they are.
        """
        ...

    def upload(self, source: Path, target: str) -> None:
        """Copy the contents of a folder into the folder `target` of the sandbox, keeping executable bits."""
        ...

    def read(self, path: str) -> bytes | None:
        """The content of a file, or None where there is none."""
        ...


class SandboxProvider(Protocol):
    """Makes sandboxes for tasks."""

    def prepare(self, task: Task) -> str:
        """Build or find the task's image; idempotent. Returns its id (a digest, for the provenance).

        Raises:
            UsageError: the environment does not build; the message carries the end of the build log.
            SandboxUnavailable: no container engine.
        """
        ...

    def open(self, task: Task, *, run: str, trial: str) -> AbstractContextManager[Sandbox]:
        """A running sandbox, removed when the context ends, however it ends."""
        ...
