"""Sandboxes as Docker containers: one a trial, hardened, and removed however the trial ends."""

from __future__ import annotations

import io
import os
import tarfile
import time
import uuid
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors

from capvec.errors import InfrastructureError, SandboxUnavailable
from capvec.records import CommandResult, Task
from capvec.sandbox.base import Sandbox
from capvec.sandbox.docker_host import check_engine, connect, faults
from capvec.sandbox.images import find_image, prepare_image
from capvec.sandbox.reaper import PID_LABEL, RUN_LABEL, TRIAL_LABEL, owner_label, reap, remove, remove_late
from capvec.sandbox.shell import (
    GRACE_S,
    KILL_OTHERS,
    LIST_KEEPERS,
    ExecStream,
    Finished,
    Output,
    PersistentShell,
    quote_command,
)
from capvec.sandbox.system_files import Origin, put_back

__all__ = ["RUN_LABEL", "DockerProvider", "DockerSandbox", "check_engine", "connect", "faults", "reap"]

READ_LIMIT = 1 << 20
"""Bytes of the largest file that `read` returns."""
FREEZE_S = 15.0
"""How long to go on trying to freeze a container."""
KEEPER = "65534:65534"
"""User of the container's own two processes, init and its child: without CAP_KILL no agent can end them, even with
`kill -9 -1`, and so no agent can make its trial an error of the instrument that way. Not where a task adds
capabilities: the engine gives none to the execs of a container whose own user is not root."""


class DockerProvider:
    """Makes sandboxes on the Docker engine of the environment (`DOCKER_HOST`, or the local socket)."""

    def prepare(self, task: Task) -> str:
        """Build, pull or find the task's image. Returns its id."""
        with faults(), connect() as client:
            return prepare_image(client, task)

    @contextmanager
    def open(self, task: Task, *, run: str, trial: str) -> Iterator[Sandbox]:
        """A running container for one trial, removed when the context ends."""
        with connect() as client, ExitStack() as cleanup:
            with faults():
                image = find_image(client, task) or prepare_image(client, task)
                config: dict[str, Any] = client.api.inspect_image(image)["Config"] or {}
                # The name is known before the container exists, so that nothing can be lost between the two.
                name = f"capvec-{uuid.uuid4().hex[:20]}"
                user, home = config.get("User") or "0", config.get("WorkingDir") or "/"
                settings = _settings(client, task, run, trial) | {
                    "user": user if task.limits.cap_add else KEEPER,
                    "working_dir": "/",  # of those two; it may be closed to them
                }
                cleanup.callback(remove, client, name)
                try:
                    container = client.containers.create(image, name=name, **settings)
                except KeyboardInterrupt:
                    remove_late(client, name)
                    raise
                container.start()
                sandbox = DockerSandbox(client, name, user=user, workdir=home)
            cleanup.callback(sandbox.hang_up)
            yield sandbox


class DockerSandbox:
    """One container. Commands go through one persistent shell, programs of the verifier through execs of their own."""

    def __init__(self, client: docker.DockerClient, container: str, *, user: str, workdir: str) -> None:
        """Args:
        client: of its engine.
        container: the name of a container that was just started.
        user: who runs commands and programs, as the image has it.
        workdir: where they start, as the image has it.
        """
        self._client, self._api = client, cast("Any", client.api)
        self._container, self._user, self._workdir = container, user, workdir
        self._cwd: str | None = None
        self._origin = Origin.of(client, container)
        self._restarted = False
        self._base = self._keepers()
        self._shell: PersistentShell | None = self._start_shell()

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        started = time.monotonic()
        output = Output()
        with faults():
            shell, lost = self._living_shell(output)
            finished = shell.run(quote_command(command), output, timeout_s=timeout_s)
            timed_out = finished.exit_code is None and not finished.ended
            if timed_out:
                finished = self._end_command(shell, output)
            exit_code = self._exit_code() if finished.ended and not timed_out else finished.exit_code
            if finished.cwd is not None:
                self._cwd = finished.cwd
            else:
                lost = True
                self._replace_shell()
        return CommandResult(
            output=output.text(),
            exit_code=None if timed_out else exit_code,
            timed_out=timed_out,
            dropped_bytes=output.dropped,
            shell_restarted=lost,
            duration_s=round(time.monotonic() - started, 4),
        )

    def execute(self, argv: tuple[str, ...], *, timeout_s: float, env: dict[str, str] | None = None) -> CommandResult:
        """Run a program in a process of its own, with the image's environment and in its working directory.

        If the agent deleted that directory, the program runs in `/`. One that is not there is exit code 127.
        """
        started = time.monotonic()
        output = Output()
        in_workdir = ["sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", self._workdir, *argv]
        with faults():
            exec_id, stream = self._exec(in_workdir, env=env)
            with closing(stream):
                exit_code = self._collect(exec_id, stream, output, started + timeout_s)
                if exit_code is None:
                    self._kill_others()
        return CommandResult(
            output=output.text(),
            exit_code=exit_code,
            timed_out=exit_code is None,
            dropped_bytes=output.dropped,
            duration_s=round(time.monotonic() - started, 4),
        )

    def take_back(self) -> tuple[str, ...]:
        with faults():
            self._pause()
            try:
                # After a restart even the container's own second process is a program that the agent may have put
                # there; without it, init ends.
                spared = "1" if self._restarted else self._base
                wrong = put_back(self._client, self._container, self._origin, spared=spared)
            finally:
                self._api.unpause(self._container)
            self.hang_up()
            if "/dev" in wrong or self._restarted:
                # Not otherwise: the engine would write /etc/hosts anew, which may be the agent's work.
                self._restart()
                self._origin, self._restarted = Origin.of(self._client, self._container), False
        return wrong

    def _pause(self) -> None:
        """Freeze all processes. On busy cores runc may find no moment for it, and leaves it to the caller to retry."""
        deadline = time.monotonic() + FREEZE_S
        while True:
            try:
                self._api.pause(self._container)
            except docker.errors.APIError as error:
                if "unable to freeze" not in str(error.explanation) or time.monotonic() > deadline:
                    raise
                error.response.close()
                time.sleep(0.1)
            else:
                return

    def upload(self, source: Path, target: str) -> None:
        buffer = io.BytesIO()
        with tarfile.open(fileobj=buffer, mode="w") as archive:
            for path in (source, *sorted(source.rglob("*"))):
                inside = Path(target.lstrip("/")) / path.relative_to(source)
                archive.add(path, arcname=str(inside), recursive=False, filter=_as_root)
        with faults():
            self._api.put_archive(self._container, "/", buffer.getvalue())

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None for anything else, links included.

        Raises:
            InfrastructureError: the file is larger than `READ_LIMIT`.
        """
        with faults():
            try:
                chunks, stat = self._api.get_archive(self._container, path)
            except docker.errors.APIError as error:
                if not _says_no_such_file(error):
                    raise  # the container is gone, not the file
                error.response.close()
                return None
            if not _is_regular(stat["mode"]):
                _abandon(chunks)
                return None
            if stat["size"] > READ_LIMIT:
                _abandon(chunks)
                raise InfrastructureError(
                    f"{path} in the sandbox has {stat['size']} bytes; expected at most {READ_LIMIT}: write less to it"
                )
            data = io.BytesIO(b"".join(chunks))
        with tarfile.open(fileobj=data) as archive:
            member = archive.next()
            file = archive.extractfile(member) if member is not None and member.isfile() else None
            return file.read() if file is not None else None

    def hang_up(self) -> None:
        """Let go of the shell; `run` starts a new one."""
        if self._shell is not None:
            with suppress(OSError):
                self._shell.close()
            self._shell = None

    # -------------------------------------------------------------------------------------------- the shell

    def _living_shell(self, output: Output) -> tuple[PersistentShell, bool]:
        """The shell, and whether it is a new one because the old one died since the last command."""
        if self._shell is not None and self._shell.is_alive(output):
            return self._shell, False
        died = self._shell is not None
        if died:
            self.hang_up()
        self._shell = self._start_shell()
        return self._shell, died

    def _start_shell(self) -> PersistentShell:
        command = ["sh", "-c", "if command -v bash >/dev/null; then exec bash --noprofile --norc; else exec sh; fi"]
        try:
            self._shell_exec, stream = self._exec(command, stdin=True, workdir=self._cwd or self._workdir)
            with ExitStack() as unless_started:
                unless_started.callback(stream.close)
                shell = PersistentShell(stream)
                unless_started.pop_all()
            return shell
        except (docker.errors.APIError, SandboxUnavailable):
            if self._cwd == "/":
                raise
            self._cwd = "/"  # the directory is gone
            return self._start_shell()

    def _end_command(self, shell: PersistentShell, output: Output) -> Finished:
        """Kill what a timed-out command started, again and again while it starts more; in the end the shell too."""
        deadline = time.monotonic() + GRACE_S
        while True:
            self._kill_others(spare=shell.pid)
            finished = shell.wait(output, timeout_s=0.5)
            if finished.cwd is not None or finished.ended or time.monotonic() > deadline:
                return finished

    def _replace_shell(self) -> None:
        self.hang_up()
        self._kill_others()
        self._shell = self._start_shell()

    def _exit_code(self) -> int | None:
        """Of the shell that ended. The engine may need a moment to notice."""
        for _ in range(50):
            code = self._api.exec_inspect(self._shell_exec)["ExitCode"]
            if code is not None:
                return int(code)
            time.sleep(0.02)
        return None

    # -------------------------------------------------------------------------------------------- processes

    def _keepers(self) -> str:
        """PIDs of the container's own processes, init and its child."""
        output = Output()
        exec_id, stream = self._exec(["sh", "-c", LIST_KEEPERS])
        with closing(stream):
            exit_code = self._collect(exec_id, stream, output, time.monotonic() + 20)
        if exit_code != 0:
            raise SandboxUnavailable(f"the container cannot run sh, which every command needs: {output.text().strip()}")
        return " ".join(output.text().split())

    def _kill_others(self, spare: int | None = None) -> None:
        """Kill everything but the container's own processes and `spare`, until nothing is left."""
        spared = f"{self._base} {spare}" if spare is not None else self._base
        exec_id, stream = self._exec(["sh", "-c", KILL_OTHERS, spared])
        with closing(stream):
            exit_code = self._collect(exec_id, stream, Output(), time.monotonic() + 10)
        if exit_code != 0:
            # They multiply faster than they die, or run as another user, whom only CAP_KILL could touch, or the
            # killer cannot start. Ending the container ends them all at once, and keeps the files.
            self._restart()
            self._restarted = True

    def _restart(self) -> None:
        self._api.restart(self._container, timeout=0)
        self._base = self._keepers()

    def _collect(self, exec_id: str, stream: ExecStream, output: Output, deadline: float) -> int | None:
        """Read what an exec prints until it is over. Returns its exit code, None if the deadline passed first."""
        while True:
            now = time.monotonic()
            if piece := stream.receive(min(deadline, now + 1.0)):
                output.add(piece)
                continue
            # Over is when the program has ended: a process that it left behind may hold its output open for ever.
            code = self._api.exec_inspect(exec_id)["ExitCode"]
            if code is not None:
                return int(code)
            if now >= deadline:
                return None
            if stream.ended:
                time.sleep(0.02)

    def _exec(
        self, argv: list[str], *, stdin: bool = False, env: dict[str, str] | None = None, workdir: str = "/"
    ) -> tuple[str, ExecStream]:
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                created = self._api.exec_create(
                    self._container, argv, stdin=stdin, environment=env, workdir=workdir, user=self._user
                )
                return created["Id"], ExecStream(self._api.exec_start(created["Id"], socket=True))
            except docker.errors.APIError as error:
                # The engine may hear of its own pause only after it has ended it, and believes in it for a moment.
                if "is paused" not in str(error.explanation) or time.monotonic() > deadline:
                    raise
                error.response.close()
                time.sleep(0.02)


def _settings(client: docker.DockerClient, task: Task, run: str, trial: str) -> dict[str, Any]:
    limits = task.limits
    memory = f"{limits.memory_mb}m"
    # The engine refuses a limit above what it has; every engine has one CPU, so that most tasks need not ask.
    cpus = limits.cpus if limits.cpus <= 1 else min(limits.cpus, client.info()["NCPU"])
    return {
        "entrypoint": ["sleep"],
        "command": ["infinity"],
        "init": True,
        "healthcheck": {"test": ["NONE"]},
        "network_mode": "bridge" if limits.network else "none",
        "cap_drop": ["ALL"],
        "cap_add": list(limits.cap_add),
        "security_opt": ["no-new-privileges"],
        "pids_limit": limits.pids,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(cpus * 1e9),
        "environment": dict(task.env),
        "labels": {RUN_LABEL: run, TRIAL_LABEL: trial, PID_LABEL: owner_label(os.getpid())},
    }


def _as_root(member: tarfile.TarInfo) -> tarfile.TarInfo:
    """Owned by root and readable by all, whatever the umask of the host was; executable if it was."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    if member.isdir() or member.isreg():
        member.mode = 0o755 if member.isdir() or member.mode & 0o100 else 0o644
    return member


def _is_regular(mode: int) -> bool:
    """Whether a mode of Go's `os.FileMode`, as the engine reports it, is that of a regular file."""
    kinds = (31, 27, 26, 25, 24, 21, 19)  # directory, link, device, pipe, socket, character device, irregular
    return not any(mode >> bit & 1 for bit in kinds)


def _abandon(chunks: Generator[bytes]) -> None:
    """Drop the connection of an archive without reading the rest; it could be of any size."""
    next(chunks, None)
    chunks.close()


def _says_no_such_file(error: docker.errors.APIError) -> bool:
    said = str(error.explanation).lower()
    missing = isinstance(error, docker.errors.NotFound) and "no such container" not in said
    return missing or "not a directory" in said
