"""What a trial needs of a sandbox, independent of what runs it.

A new sandbox implements both protocols and passes `SandboxConformance` in `tests/support/sandbox_conformance.py`. A
command that fails is a result; an exception means that the sandbox failed, and ends the trial in `error`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from capvec.records import CommandResult
from capvec.task_records import Artifact, Task, TaskStep
from capvec.text import one_line

MAIN = "main"
"""The service that is the agent's container."""
LOG_FOLDERS = ("/logs/agent", "/logs/verifier", "/logs/artifacts")
"""Folders that Harbor mounts, for any user to write to."""
KEPT_BYTES = 8192
"""Bytes of a command's output that are kept: half from its start, half from its end."""
MOST_BYTES, MOST_FILES = 1 << 30, 100_000
"""Of all artifacts of a step together. One that goes beyond is left out."""


@dataclass
class Budget:
    """What artifacts may still hold."""

    bytes_left: int = MOST_BYTES
    files_left: int = MOST_FILES

    @property
    def spent(self) -> bool:
        """Whether a file went beyond it."""
        return self.bytes_left < 0 or self.files_left < 0

    def spend(self, size: int) -> bool:
        """Count a file of so many bytes. False if it goes beyond."""
        self.bytes_left -= size
        self.files_left -= 1
        return not self.spent


ENDED = "ended before the verifier ran"
_NAMED = 20
"""Paths and processes to name."""


class TakenBack(NamedTuple):
    """What was done to a sandbox before its verifier."""

    restored: tuple[str, ...] = ()
    """Paths that the agent had changed, and that are the image's again."""
    ended: tuple[str, ...] = ()
    """Names of the processes that the agent had left running."""

    def in_words(self) -> tuple[str, ...]:
        """One sentence for each that is not empty."""
        what = {"restored from the image before the verifier ran": self.restored, ENDED: self.ended}
        return tuple(f"{did}: {_listed(names)}" for did, names in what.items() if names)


def _listed(names: Sequence[str]) -> str:
    """The first names, each on one line, and how many there are beside them."""
    shown = [one_line(name) for name in names[:_NAMED]]
    return ", ".join([*shown, f"and {len(names) - _NAMED} more"] if len(names) > _NAMED else shown)


class Sandbox(Protocol):
    """One isolated machine for one trial.

    Every method raises `SandboxUnavailable` once the sandbox is gone, and after the context of `SandboxProvider.open`
    has ended.
    """

    def check(self) -> None:
        """Make sure that nothing has taken the sandbox away since it was opened.

        Raises:
            SandboxUnavailable: what runs it was restarted meanwhile, or does not answer.
            StorageExceeded: it was ended, since too much was written to its disk.
        """
        ...

    def enter(self, *, user: str | None, network: bool | None) -> None:
        """Begin a phase of the task: say who runs commands and programs, and whether they reach the public network.

        The shell begins anew in the working directory of the environment.

        Args:
            user: name or number; None for the image's own user.
            network: None for as the environment says.

        Raises:
            UsageError: the image has no such user.
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command of the agent in the trial's persistent shell.

        The working directory, variables, functions and background jobs survive to the next call. A command that
        outlives its time is killed inside the sandbox, with every process that it started; background jobs of earlier
        commands live on. If the shell itself ends or hangs, a new one replaces it, and all processes are killed.

        Args:
            command: shell text of any length, which may hold any character.
            timeout_s: seconds until the command is killed.

        Returns:
            `output` is stdout and stderr in the order of writing, cut in the middle if it is long (`dropped_bytes`).
            `exit_code` is the command's, 127 for a command that does not exist, and None with `timed_out`.
            `shell_restarted` says whether the shell was replaced, so that variables and background jobs are lost.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def execute(self, argv: tuple[str, ...], *, timeout_s: float, env: dict[str, str] | None = None) -> CommandResult:
        """Run a program in a new process, independent of the persistent shell: a verifier or a solution.

        Args:
            argv: the program and its arguments.
            timeout_s: seconds until the program is killed.
            env: variables to add to the environment of the image and the task.

        Returns:
            As `run`; `shell_restarted` is always False.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def take_back(self) -> TakenBack:
        """End the agent's access to the machine, so that a verifier that runs in it can be trusted.

        Every process that the agent left running is killed, unless the sandbox was made to keep them; those that the
        image's ENTRYPOINT started live on. The system's own files are restored: the commands, their libraries, and
        everything else that decides which program a name stands for. `/logs/verifier` is emptied, and `/tests` is again
        what the image has there. Other files stay as they are.

        Returns:
            The paths that were restored, and the processes that were killed.

        Raises:
            SandboxUnavailable: the sandbox is gone, or cannot be restored.
        """
        ...

    def upload(self, source: Path, target: str) -> None:
        """Copy the contents of a folder of this machine into the sandbox.

        Args:
            source: the folder. Executable bits are kept, and scripts (`.sh`) have them. The copies belong to root and
                are readable by all.
            target: absolute path of a folder of the sandbox, which keeps its owner and mode. It is made for root if it
                does not exist.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def read(self, path: str) -> bytes | None:
        """Read one file of the sandbox.

        Args:
            path: absolute path in the sandbox.

        Returns:
            The content; None if there is no such file.

        Raises:
            SandboxUnavailable: the sandbox is gone.
            FileTooLarge: the file is too large to read.
        """
        ...

    def execute_beside(self, service: str, command: str, *, timeout_s: float, user: str | None) -> CommandResult:
        """Run a command in a service beside the sandbox, which the agent reaches over the network at most.

        It runs with the `sh`, the environment and the working directory of the service.

        Args:
            service: its name in `docker-compose.yaml`.
            command: shell text.
            timeout_s: seconds until the command is waited for no longer.
            user: name or number; None for the service's own.

        Returns:
            As `execute`. The exit code is 126 where the service has ended, or cannot run the command.

        Raises:
            SandboxUnavailable: the service is gone.
        """
        ...

    def stop(self) -> None:
        """End every process of the sandbox, and leave its files and the services beside it as they are.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def empty(self, folders: Sequence[str]) -> None:
        """Make folders of the sandbox empty and writable for every user.

        Args:
            folders: absolute paths; made where they are missing.

        Raises:
            SandboxUnavailable: the sandbox is gone, or they cannot be emptied.
        """
        ...

    def take(self, artifact: Artifact, budget: Budget) -> BinaryIO | None:
        """Copy a file or folder out, while no process of the sandbox runs, nor of the service that it belongs to.

        Args:
            artifact: what to copy, of the sandbox or of a service beside it.
            budget: what it may hold, which is reduced.

        Returns:
            An archive for `place`, from which `capvec.sandbox.artifacts.clean` has removed what is not safe; None if
            there is no such file or folder, or it goes beyond the budget. Links are not followed, but for those of the
            image on the way to the path.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def retire(self) -> None:
        """Run nothing more in the sandbox, of which artifacts are copied.

        Where nothing runs in it but what the agent left running, that is ended. What the image or the compose file
        started lives on.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def make_room(self, paths: Sequence[str]) -> None:
        """Remove what a verifier's own sandbox has of its image where artifacts will be, and in `/logs/verifier`.

        Args:
            paths: of the artifacts.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def place(self, archives: Sequence[tuple[str, BinaryIO]]) -> None:
        """Put what `take` gave into this sandbox, at the same paths.

        Args:
            archives: path and archive of each, in this order.

        Raises:
            SandboxUnavailable: the sandbox is gone.
        """
        ...

    def expect_verifier(self, step: TaskStep, ready: Ready) -> None:
        """Say that `open_verifier` will be called with this, so that what takes long may be done by then.

        A verifier's sandbox is started early where no program of the task runs in it before the verifier, and it
        reaches no network.
        """
        ...

    def open_verifier(self, step: TaskStep, ready: Ready) -> AbstractContextManager[Sandbox]:
        """Start the sandbox of a verifier that has one of its own, which the agent never had access to.

        Args:
            step: whose `verifier.environment` it is.
            ready: makes a new sandbox ready for the verifier.

        Returns:
            A context manager that gives the running sandbox, which is removed when the context ends.

        Raises:
            SandboxUnavailable: it cannot be started.
            InfrastructureError: it does not become healthy.
        """
        ...


Ready = Callable[[Sandbox], None]
"""Makes a new sandbox ready for its verifier."""


class SandboxProvider(Protocol):
    """Makes sandboxes for tasks."""

    @property
    def host(self) -> str:
        """The name of the machine that has the sandboxes; empty where none was named, or there are several."""
        ...

    def place(self) -> AbstractContextManager[SandboxProvider]:
        """Take a place for one trial, whose sandboxes are all on one host.

        Returns:
            A context manager that gives what makes the trial's sandboxes, and gives the place back when it ends.

        Raises:
            SandboxUnavailable: no host answers.
        """
        ...

    def prepare(self, task: Task) -> str:
        """Build or find the images of a task, before the first sandbox of the task is opened. Calls are idempotent.

        Args:
            task: the task; its `path` holds `environment/`.

        Returns:
            The id of each image and what it is, for `provenance.json`: `sha256:… from environment/Dockerfile`.

        Raises:
            UsageError: the environment does not build; the message carries the end of the build log.
            SandboxUnavailable: nothing can run sandboxes on this machine.
        """
        ...

    def open(self, task: Task, *, run: str, trial: str) -> AbstractContextManager[Sandbox]:
        """Start a sandbox for one trial.

        Args:
            task: the task, whose `limits` and `env` hold in the sandbox.
            run: name of the run, by which a leftover of a killed process is found.
            trial: id of the trial, likewise.

        Returns:
            A context manager that gives the running sandbox. The sandbox is removed when the context ends, however it
            ends.

        Raises:
            UsageError: as `prepare`.
            SandboxUnavailable: nothing can run sandboxes on this machine; at the end of the context, too, where what
                runs them was restarted meanwhile.
        """
        ...

    def idles(self, task: Task) -> bool:
        """Whether no program of the task runs in its sandbox before the agent acts, so that it may be opened early.

        Raises:
            UsageError: as `prepare`.
            SandboxUnavailable: nothing can run sandboxes on this machine.
        """
        ...

    def check(self) -> None:
        """Make sure that sandboxes can be run at this moment.

        Raises:
            SandboxUnavailable: they cannot.
        """
        ...

    def silent(self) -> tuple[str, ...]:
        """The names of the hosts that do not answer, of several."""
        ...

    def is_lost(self, host: str) -> bool:
        """Whether a host does not answer, and there are others on which its trials can run."""
        ...

    def clear(self, *, run: str, trial: str | None = None) -> None:
        """Remove the sandboxes of an earlier try of a trial, which could not be removed when it ended.

        Args:
            run: as for `open`.
            trial: likewise; None for all trials of the run that this process runs.

        Raises:
            SandboxUnavailable: nothing can run sandboxes at the moment.
        """
        ...
