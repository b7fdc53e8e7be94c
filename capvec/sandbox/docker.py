"""Sandboxes as Docker containers: one for each trial, hardened, and removed however the trial ends."""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors

from capvec.errors import SandboxUnavailable
from capvec.records import CommandResult, Task
from capvec.sandbox import files
from capvec.sandbox.base import Sandbox
from capvec.sandbox.docker_host import connect, faults
from capvec.sandbox.images import find_image, prepare_image
from capvec.sandbox.processes import GRACE_S, Processes
from capvec.sandbox.reaper import PID_LABEL, RUN_LABEL, TRIAL_LABEL, owner_label, remove, remove_late
from capvec.sandbox.shell import Finished, PersistentShell, quote_command
from capvec.sandbox.streams import Output
from capvec.sandbox.system_files import Origin, put_back

FREEZE_S = 15.0
"""How long to retry freezing a container."""
KEEPER = "65534:65534"
"""User of the container's own two processes, init and its child. Without CAP_KILL no agent can end them, not even with
`kill -9 -1`, and so no agent can turn its trial into an infrastructure error that way. Where a task adds capabilities,
both run as the image's user instead: Docker gives none to the execs of a container whose own user is not root."""


class DockerProvider:
    """Makes sandboxes on the Docker of the environment: `DOCKER_HOST`, or else the local socket."""

    def prepare(self, task: Task) -> str:
        """Build, pull or find the task's image. Returns its id. See `SandboxProvider.prepare`."""
        with faults(), connect() as client:
            return prepare_image(client, task)

    @contextmanager
    def open(self, task: Task, *, run: str, trial: str) -> Iterator[Sandbox]:
        """A running container for one trial, removed when the context ends. See `SandboxProvider.open`."""
        with connect() as client, ExitStack() as cleanup:
            with faults():
                image = find_image(client, task) or prepare_image(client, task)
                config: dict[str, Any] = client.api.inspect_image(image)["Config"] or {}
                # The name is known before the container exists, so that nothing can be lost between the two.
                name = f"capvec-{uuid.uuid4().hex[:20]}"
                user, home = config.get("User") or "0", config.get("WorkingDir") or "/"
                settings = _settings(client, task, run, trial) | {
                    "user": user if task.environment.limits.cap_add else KEEPER,
                    "working_dir": "/",  # of the keepers, who may have no access to the image's
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
    """One container. Commands run in one persistent shell, the verifier's programs in processes of their own."""

    def __init__(self, client: docker.DockerClient, container: str, *, user: str, workdir: str) -> None:
        """Start the shell.

        Args:
            client: connected to the container's Docker.
            container: name of a container that was just started.
            user: who runs commands and programs, from the image.
            workdir: where they start, from the image.
        """
        self._client, self._api = client, cast("Any", client.api)
        self._container, self._workdir = container, workdir
        self._cwd: str | None = None
        self._origin = Origin.of(client, container)
        self.processes = Processes(client, container, user=user)
        self._shell: PersistentShell | None = self._start_shell()

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command in the persistent shell. See `Sandbox.run`."""
        started = time.monotonic()
        output = Output()
        with faults():
            shell, lost = self._living_shell(output)
            finished = shell.run(quote_command(command), output, timeout_s=timeout_s)
            timed_out = finished.exit_code is None and not finished.ended
            if timed_out:
                finished = self._end_command(shell, output)
            ended = finished.ended and not timed_out
            exit_code = self.processes.exit_code(self._shell_exec) if ended else finished.exit_code
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

        If the agent deleted that directory, the program runs in `/`. See `Sandbox.execute`.
        """
        started = time.monotonic()
        output = Output()
        in_workdir = ["sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", self._workdir, *argv]
        with faults():
            exec_id, stream = self.processes.start(in_workdir, env=env)
            with closing(stream):
                exit_code = self.processes.collect(exec_id, stream, output, started + timeout_s)
                if exit_code is None:
                    self.processes.kill_others()
        return CommandResult(
            output=output.text(),
            exit_code=exit_code,
            timed_out=exit_code is None,
            dropped_bytes=output.dropped,
            duration_s=round(time.monotonic() - started, 4),
        )

    def take_back(self) -> tuple[str, ...]:
        """Kill what the agent left running and restore the system's files. See `Sandbox.take_back`."""
        with faults():
            self._pause()
            try:
                # After a restart even the container's own second process is a program that the agent may have put
                # there; without it, init ends.
                alive = "1" if self.processes.restarted else self.processes.keepers
                wrong = put_back(self._client, self._container, self._origin, keep=alive)
            finally:
                self._api.unpause(self._container)
            self.hang_up()
            if "/dev" in wrong or self.processes.restarted:
                # Not otherwise: Docker would rewrite /etc/hosts, which may be the agent's work.
                self.processes.restart()
                self._origin, self.processes.restarted = Origin.of(self._client, self._container), False
        return wrong

    def upload(self, source: Path, target: str) -> None:
        """Copy the contents of a folder into the sandbox. See `Sandbox.upload`."""
        archive = files.pack(source, target)
        with faults():
            self._api.put_archive(self._container, "/", archive)

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None for anything else, links included. See `Sandbox.read`.

        Raises:
            InfrastructureError: the file is larger than `files.READ_LIMIT`.
        """
        with faults():
            archive = files.fetch(self._api, self._container, path)
        return None if archive is None else files.unpack(archive)

    def hang_up(self) -> None:
        """Close the shell; `run` starts a new one."""
        if self._shell is not None:
            with suppress(OSError):
                self._shell.close()
            self._shell = None

    def _pause(self) -> None:
        """Freeze all processes. On busy cores runc may find no moment for it, and leaves the retry to the caller."""
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
            self._shell_exec, stream = self.processes.start(command, stdin=True, workdir=self._cwd or self._workdir)
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
        """Kill what a timed-out command started, and what that starts in turn; the shell too if it does not answer."""
        deadline = time.monotonic() + GRACE_S
        while True:
            self.processes.kill_others(keep=shell.pid)
            finished = shell.wait(output, timeout_s=0.5)
            if finished.cwd is not None or finished.ended or time.monotonic() > deadline:
                return finished

    def _replace_shell(self) -> None:
        self.hang_up()
        self.processes.kill_others()
        self._shell = self._start_shell()


def _settings(client: docker.DockerClient, task: Task, run: str, trial: str) -> dict[str, Any]:
    limits = task.environment.limits
    memory = f"{limits.memory_mb}m"
    # Docker refuses more CPUs than the machine has. Every machine has one, so most tasks need not ask.
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
        "environment": dict(task.environment.env),
        "labels": {RUN_LABEL: run, TRIAL_LABEL: trial, PID_LABEL: owner_label(os.getpid())},
    }
