"""A sandbox that runs nothing: it answers from a script and keeps files in memory, to test the agent loop with."""

from __future__ import annotations

import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Self

from capvec.errors import SandboxUnavailable
from capvec.records import CommandResult
from capvec.sandbox.artifacts import clean
from capvec.sandbox.base import Budget, Ready, TakenBack
from capvec.task_records import Artifact, Task, TaskStep

Answer = CommandResult | Exception | None
"""What a command gives: a result, an exception to raise, or None for a command that is not found."""
Script = Mapping[str, CommandResult | Exception] | Callable[[str], Answer]
"""Command → answer. For `execute` the command is the words, joined by spaces."""


class ScriptedSandbox:
    """Answers each command from the script; a command that is not in it is not found, as in a shell."""

    def __init__(self, script: Script, files: Mapping[str, bytes] | None = None) -> None:
        """Open the sandbox.

        Args:
            script: what commands give.
            files: path → content, as `read` returns it.
        """
        self._look_up: Callable[[str], Answer] = dict(script).get if isinstance(script, Mapping) else script
        self._script, self._given = script, files
        self._files = dict(files or {})
        self._open = True
        self.commands: list[str] = []
        """Every command and program that was run, in order."""
        self.taken_back = False
        """Whether `take_back` was called after the last command."""

    def check(self) -> None:
        """Raise if it was closed."""
        self._check()

    def enter(self, *, user: str | None, network: bool | None) -> None:
        """Nothing changes."""
        self._check()

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """The script's answer."""
        self.taken_back = False
        return self._answer(command)

    def execute(
        self,
        argv: tuple[str, ...],
        *,
        timeout_s: float,
        env: dict[str, str] | None = None,
    ) -> CommandResult:
        """The script's answer."""
        return self._answer(" ".join(argv))

    def execute_beside(self, service: str, command: str, *, timeout_s: float, user: str | None) -> CommandResult:
        """The script's answer to the command after the service's name and a colon."""
        return self._answer(f"{service}: {command}")

    def stop(self) -> None:
        """Nothing runs; it is kept as the command `stop`."""
        self._check()
        self.commands.append("stop")

    def empty(self, folders: Sequence[str]) -> None:
        """Forget the files in them."""
        self._check()
        self._files = {path: data for path, data in self._files.items() if not path.startswith(tuple(folders))}

    def take_back(self) -> TakenBack:
        """Nothing to restore."""
        self._check()
        self.taken_back = True
        return TakenBack()

    def upload(self, source: Path, target: str) -> None:
        """Keep the files in memory."""
        self._check()
        for path in source.rglob("*"):
            if path.is_file():
                self._files[str(PurePosixPath(target) / path.relative_to(source).as_posix())] = path.read_bytes()

    def read(self, path: str) -> bytes | None:
        """A file that was given or uploaded."""
        self._check()
        return self._files.get(path)

    def take(self, artifact: Artifact, budget: Budget) -> BinaryIO | None:
        """An archive of the files at or below the path."""
        self._check()
        archive, name = BytesIO(), PurePosixPath(artifact.source).name
        found = {path: data for path, data in self._files.items() if f"{path}/".startswith(f"{artifact.source}/")}
        with tarfile.open(fileobj=archive, mode="w") as opened:
            for path, data in found.items():
                member = tarfile.TarInfo(name + path.removeprefix(artifact.source))
                member.size = len(data)
                opened.addfile(member, BytesIO(data))
        return clean([archive.getvalue()], artifact, budget) if found else None

    def retire(self) -> None:
        """Nothing runs; it is kept as the command `retire`."""
        self._check()
        self.commands.append("retire")

    def make_room(self, paths: Sequence[str]) -> None:
        """Forget the files that are there."""
        self._check()
        gone = tuple(f"{path.rstrip('/')}/" for path in paths)
        self._files = {path: data for path, data in self._files.items() if not f"{path}/".startswith(gone)}

    def place(self, archives: Sequence[tuple[str, BinaryIO]]) -> None:
        """Keep the files in memory."""
        self._check()
        for _, archive in archives:
            with tarfile.open(fileobj=archive) as opened:
                for member in opened:
                    content = opened.extractfile(member)
                    self._files[f"/{member.name}"] = content.read() if content else b""

    def expect_verifier(self, step: TaskStep, ready: Ready) -> None:
        """Nothing takes long."""
        self._check()

    @contextmanager
    def open_verifier(self, step: TaskStep, ready: Ready) -> Iterator[ScriptedSandbox]:
        """Another sandbox with the same script, and what this one was opened with."""
        self._check()
        own = ScriptedSandbox(self._script, self._given)
        ready(own)
        yield own

    def close(self) -> None:
        """Make the sandbox unavailable."""
        self._open = False

    def _answer(self, command: str) -> CommandResult:
        self._check()
        self.commands.append(command)
        answer = self._look_up(command)
        if isinstance(answer, Exception):
            raise answer
        return answer or CommandResult(f"{command.split(' ', maxsplit=1)[0]}: command not found\n", 127)

    def _check(self) -> None:
        if not self._open:
            raise SandboxUnavailable("the scripted sandbox was closed")


class OnOneHost:
    """What a provider is whose sandboxes are all on one host, which is there as long as it is."""

    host = "scripted"

    def place(self) -> AbstractContextManager[Self]:
        """Itself."""
        return nullcontext(self)

    def silent(self) -> tuple[str, ...]:
        """None beside the others."""
        return ()

    def is_lost(self, host: str) -> bool:
        """Never: there is no other."""
        return False


@dataclass
class ScriptedProvider(OnOneHost):
    """Opens scripted sandboxes that share one script."""

    script: Script
    files: Mapping[str, bytes] = field(default_factory=dict)
    opened: list[ScriptedSandbox] = field(default_factory=list)
    away: Exception | None = None
    """What `check` raises."""
    cleared: list[tuple[str, str | None]] = field(default_factory=list)
    """Run and trial of each call of `clear`."""

    def prepare(self, task: Task) -> str:
        """Nothing is built; the id is made of the task's name."""
        return f"scripted:{task.name}"

    @contextmanager
    def open(self, task: Task, *, run: str, trial: str) -> Iterator[ScriptedSandbox]:
        """A scripted sandbox, closed when the context ends."""
        sandbox = ScriptedSandbox(self.script, self.files)
        self.opened.append(sandbox)
        try:
            yield sandbox
        finally:
            sandbox.close()

    def idles(self, task: Task) -> bool:
        """Always."""
        return True

    def check(self) -> None:
        """Raise what was given."""
        if self.away is not None:
            raise self.away

    def clear(self, *, run: str, trial: str | None = None) -> None:
        """Note the call."""
        self.cleared.append((run, trial))
