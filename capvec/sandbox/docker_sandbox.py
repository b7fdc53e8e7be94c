"""One sandbox as a Docker container: started with its services, acted in by an agent, and judged."""

from __future__ import annotations

import tarfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from capvec.errors import SandboxBroken
from capvec.records import CommandResult
from capvec.sandbox import files
from capvec.sandbox.accounts import are_readable, restore_accounts
from capvec.sandbox.ahead import Ahead
from capvec.sandbox.artifacts import clean, joined
from capvec.sandbox.base import LOG_FOLDERS, MAIN, Budget, Ready, Sandbox, TakenBack
from capvec.sandbox.containers import Started
from capvec.sandbox.docker_host import HostClient, faults
from capvec.sandbox.freezing import frozen, kill
from capvec.sandbox.processes import GRACE_S, READY_S, Keepers, Processes
from capvec.sandbox.root_work import Origin, clear_paths, empty_folders
from capvec.sandbox.service import Service
from capvec.sandbox.shell import COMMAND, START_S, Finished, PersistentShell, ShellLost, quote_command
from capvec.sandbox.streams import Output
from capvec.sandbox.system_files import put_back, restore_commands
from capvec.sandbox.users import GROUP, PASSWD, ROOT, Users
from capvec.task_records import Artifact, TaskStep

_STOP_S = 10
"""How long a container may take to end by itself before it is killed, as by Harbor."""
PATH_MAX = 4096
"""Bytes of the longest path of Linux, with the NUL at its end."""
_MAKE_ROOM = 'umask 0 && rm -rf -- "$@" && mkdir -p $0'
"""For `sh`: removes the paths from `$1` on, and makes the folders `$0`."""
PLACE_S = 60.0
"""How long root may take to make place for artifacts."""
TELLABLE_S = 0.05
"""Between two commands, so that the processes of one are older than those of the next in the kernel's clock ticks."""


class Launcher(Protocol):
    """What started the containers of a trial, and starts those of its verifiers."""

    @property
    def client(self) -> HostClient: ...

    @property
    def keep_processes(self) -> bool: ...

    def verifier(self, step: TaskStep, ready: Ready) -> AbstractContextManager[Sandbox]:
        """The sandbox of a verifier's own environment. See `Sandbox.open_verifier`."""
        ...

    def may_wait(self, step: TaskStep) -> bool:
        """Whether it may be started before it is needed."""
        ...


class DockerSandbox:
    """One container. Commands run in one persistent shell, the verifier's programs in processes of their own."""

    def __init__(
        self,
        launch: Launcher,
        started: Started,
        users: Iterable[str | None],
        checks: Sequence[Callable[[], None]],
    ) -> None:
        """Take a container. `begin` follows, or `processes.know` where no shell is needed.

        Args:
            launch: what started it.
            started: a container that was just started.
            users: those of all phases, who are looked up while no agent can have changed who they are.
            checks: raise as `check` does.
        """
        self._launch, self._started, self._checks = launch, started, checks
        self._client, self._api = launch.client, cast("Any", launch.client.api)
        self._container, self._workdir = started.name, started.workdir
        self._cwd: str | None = None
        self._users = Users(self.read, started.image.user)
        for user in users:
            self._users.number(user)
        self._origin = Origin.of(launch.client, started.name)
        self.processes = Processes(
            launch.client,
            started.name,
            user=self._users.number(None),
            killer=ROOT if started.capable else None,
            services=bool(started.image.entrypoint),
        )
        self._verifiers: Ahead[str, Sandbox] = Ahead(1)
        self._shell: PersistentShell | None = None
        self._fresh = False
        """Whether the shell is as it was started, and nothing else has run since."""
        self._last_end = 0.0
        """When the last command ended, in monotonic seconds."""

    def begin(self, user: str | None) -> None:
        """Start the shell of the first agent, which tells the container's own processes on its way.

        Raises:
            SandboxUnavailable: the container has no `sh`.
        """
        self.processes.user, listed = self._users.number(user), ""
        with suppress(ShellLost):  # the working directory may be missing
            self._shell = self._start_shell_in(self._workdir, self.processes.listing)
            self._fresh, listed = True, self._shell.said
        self.processes.know(listed)

    def check(self) -> None:
        """Ask whether Docker ran all the time, and whether the watch found too much. See `Sandbox.check`."""
        for check in self._checks:
            check()

    def enter(self, *, user: str | None, network: bool | None) -> None:
        """Begin a phase of the task. See `Sandbox.enter`.

        A shell in which nothing has happened yet is as good as a new one.
        """
        number = self._users.number(user)
        if not self._fresh or number != self.processes.user:
            self.hang_up()
        with faults():
            self.processes.user, self._cwd = number, None
            if self._started.connection is not None:
                self._started.connection.set(network)

    def run(self, command: str, *, timeout_s: float) -> CommandResult:
        """Run a command in the persistent shell. See `Sandbox.run`."""
        started, output, self._fresh = time.monotonic(), Output(), False
        with faults():
            try:
                shell, lost = self._living_shell(output)
            except ShellLost as why:
                return _without_shell(why, time.monotonic() - started)
            sent = self._next_tick()
            finished = shell.run(quote_command(command), output, timeout_s=timeout_s)
            timed_out = finished.exit_code is None and not finished.ended
            if timed_out:
                finished = self._end_command(shell, output, sent)
            ended = finished.ended and not timed_out
            exit_code = self.processes.exit_code(self._shell_exec) if ended else finished.exit_code
            if finished.cwd is not None:
                self._cwd = finished.cwd if len(finished.cwd) < PATH_MAX else "/"
            else:
                lost = True
                with suppress(ShellLost):  # the next command says so
                    self._replace_shell()
        self._last_end = time.monotonic()
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
        started, output, self._fresh = time.monotonic(), Output(), False
        in_workdir = ["sh", "-c", 'cd "$1" 2>/dev/null; shift; exec "$@"', "sh", self._workdir, *argv]
        with faults():
            sent = self._next_tick()
            try:
                exec_id, stream = self.processes.start(in_workdir, env=env)
            except ShellLost as why:
                return _without_shell(why, time.monotonic() - started)
            with closing(stream):  # the time that Docker took to start the program is not the program's
                exit_code = self.processes.collect(exec_id, stream, output, time.monotonic() + timeout_s)
                if exit_code is None:
                    with suppress(ShellLost):
                        self.processes.kill_others(since=sent)
        return CommandResult(
            output=output.text(),
            exit_code=exit_code,
            timed_out=exit_code is None,
            dropped_bytes=output.dropped,
            duration_s=round(time.monotonic() - started, 4),
        )

    def execute_beside(self, service: str, command: str, *, timeout_s: float, user: str | None) -> CommandResult:
        """Run a command in the container of a service. See `Sandbox.execute_beside`."""
        with faults():
            return Service(self._client, self._name_of(service)).execute(command, timeout_s=timeout_s, user=user)

    def stop(self) -> None:
        """End the container; Docker keeps its files. See `Sandbox.stop`."""
        self.hang_up()
        with faults():
            self._api.stop(self._container, timeout=_STOP_S)

    def empty(self, folders: Sequence[str]) -> None:
        """Empty folders as root. See `Sandbox.empty`."""
        with faults():
            self._revive()
            # What acts as root is beside the agent's processes, which may be root's too and could stop it.
            with frozen(self._api, self._container):
                empty_folders(self._client, self._container, self._origin, folders)

    def take_back(self) -> TakenBack:
        """Kill what the agent left running and restore the system's files. See `Sandbox.take_back`."""
        end = not self._launch.keep_processes
        with faults():
            self._revive()
            with frozen(self._api, self._container):
                # After a restart even the container's own second process is a program that the agent may have put
                # there; without it, init ends.
                own = self.processes.keepers
                alive = Keepers("1", "") if self.processes.restarted else own
                mended = self._mend_accounts()
                taken = put_back(self._client, self._container, self._origin, alive, own=own.pids, end=end)
                taken = taken._replace(restored=(*mended, *taken.restored))
                self.processes.lost = None
            self.hang_up()
            if "/dev" in taken.restored or (end and self.processes.restarted):
                # Not otherwise: Docker would rewrite /etc/hosts, which may be the agent's work.
                try:
                    self.processes.restart()
                except ShellLost as lost:
                    raise SandboxBroken(str(lost)) from lost
                self._origin, self.processes.restarted = Origin.of(self._client, self._container), False
                if not end:
                    taken = taken._replace(ended=("everything, since only a restart restores /dev",))
        return taken

    def upload(self, source: Path, target: str) -> None:
        """Copy the contents of a folder into the sandbox. See `Sandbox.upload`."""
        with faults():
            files.put(self._api, self._container, target, source)

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None for anything else, links included. See `Sandbox.read`.

        Raises:
            FileTooLarge: it is larger than `files.READ_LIMIT`.
        """
        with faults():
            try:
                return files.read(self._api, self._container, path)
            except tarfile.TarError:  # it became shorter while Docker read it
                with frozen(self._api, self._container):
                    return files.read(self._api, self._container, path)

    def take(self, artifact: Artifact, budget: Budget) -> BinaryIO | None:
        """Copy a file or folder out, with its container and the agent's frozen. See `Sandbox.take`."""
        with faults():
            container = self._name_of(artifact.service)
            with frozen(self._api, *dict.fromkeys((self._container, container))):
                if container == self._container:
                    self._mend_accounts()
                chunks = files.tree(self._api, container, artifact.source)
                if chunks is None:
                    return None
                with closing(chunks):
                    return clean(chunks, artifact, budget)

    def retire(self) -> None:
        """End the container, but for one whose image or compose file started programs. See `Sandbox.retire`."""
        if self._started.image.entrypoint or self._started.beside:
            return
        self.hang_up()
        with faults():
            kill(self._api, self._container)

    def make_room(self, paths: Sequence[str]) -> None:
        """Remove what is at these paths. See `Sandbox.make_room`."""
        stale = [path.rstrip("/") for path in paths] + ["/logs/verifier"]
        with faults():
            if not self._as_root("sh", "-c", _MAKE_ROOM, " ".join(LOG_FOLDERS), *stale):
                self._clear(stale)
                self._api.put_archive(self._container, "/", files.folders(("/logs", *LOG_FOLDERS)))

    def place(self, archives: Sequence[tuple[str, BinaryIO]]) -> None:
        """Put archives into the container. See `Sandbox.place`."""
        if not archives:
            return
        with faults(), joined([archive for _, archive in archives]) as archive:
            self._api.put_archive(self._container, "/", archive)
            if self.processes.user.partition(":")[0] != ROOT:
                self._as_root("chmod", "-R", "a+rX", "--", *(path for path, _ in archives))

    def expect_verifier(self, step: TaskStep, ready: Ready) -> None:
        """Begin to start the container of the verifier's own environment. See `Sandbox.expect_verifier`."""
        start = partial(self._launch.verifier, step, ready)
        self._verifiers.expect(step.name, start, only_if=partial(self._launch.may_wait, step))

    @contextmanager
    def open_verifier(self, step: TaskStep, ready: Ready) -> Iterator[Sandbox]:
        """A container of the verifier's own environment. See `Sandbox.open_verifier`."""
        with self._verifiers.open(step.name, partial(self._launch.verifier, step, ready)) as own:
            yield own
            own.check()

    def close(self) -> None:
        """Close the shell, and wait until the containers of verifiers are removed."""
        self.hang_up()
        self._verifiers.close()

    def hang_up(self) -> None:
        """Close the shell; `run` starts a new one."""
        self._fresh = False
        if self._shell is not None:
            with suppress(OSError):
                self._shell.close()
            self._shell = None

    def _clear(self, paths: Sequence[str]) -> None:
        """Remove files and folders of a container that no agent had access to."""
        if stubborn := [path for path in paths if not self._as_root("rm", "-rf", "--", path)]:
            clear_paths(self._client, self._container, self._origin, stubborn)

    def _as_root(self, *argv: str) -> bool:
        """Run a program of a container that no agent had access to. Whether it succeeded."""
        exec_id, stream = self.processes.start(list(argv), user=ROOT)
        with closing(stream):
            return self.processes.collect(exec_id, stream, Output(), time.monotonic() + PLACE_S) == 0

    def _revive(self) -> None:
        """Start the container again if the agent ended it, with the image's programs where it cannot without them."""
        try:
            self.processes.revive()
        except ShellLost:
            restore_commands(self._client, self._container, self._origin)
            self.processes.lost = None

    def _mend_accounts(self) -> tuple[str, ...]:
        """Restore the files of users in a frozen container if Docker cannot read them. Returns their paths if so."""
        if are_readable(self._client, self._container):
            return ()
        restore_accounts(self._client, self._container, self._origin)
        return (PASSWD, GROUP)

    def _name_of(self, service: str) -> str:
        """Name of the container of a service."""
        return self._container if service == MAIN else self._started.beside[service]

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
        try:
            return self._start_shell_in(self._workdir)
        except ShellLost:
            try:
                return self._start_shell_in("/")  # the directory may be gone
            except ShellLost as error:
                raise ShellLost("the container has no sh that can run") from error

    def _start_shell_in(self, workdir: str, before: str = "") -> PersistentShell:
        command = ["sh", "-c", f"{before}{COMMAND}", self._cwd or "."]
        self._shell_exec, stream = self.processes.start(command, stdin=True, workdir=workdir)
        with ExitStack() as unless_started:
            unless_started.callback(stream.close)
            try:
                shell = PersistentShell(stream, START_S + (READY_S if before else 0))
            except ShellLost:
                if stream.ended:
                    self.processes.exit_code(self._shell_exec)  # or Docker never started it
                raise
            unless_started.pop_all()
        self.processes.clock = max(shell.clock, self.processes.clock or shell.clock)
        return shell

    def _next_tick(self) -> float:
        """Now, in monotonic seconds, and long enough after the last command to tell its processes from later ones."""
        time.sleep(max(0.0, self._last_end + TELLABLE_S - time.monotonic()))
        return time.monotonic()

    def _end_command(self, shell: PersistentShell, output: Output, sent: float) -> Finished:
        """Kill what a timed-out command started, and what that starts in turn. The shell may not answer even then."""
        deadline = time.monotonic() + GRACE_S
        while True:
            try:
                self.processes.kill_others(keep=shell.pid, since=sent)
            except ShellLost:
                return Finished(None, None, ended=True)
            finished = shell.wait(output, timeout_s=0.5)
            if finished.cwd is not None or finished.ended or time.monotonic() > deadline:
                return finished

    def _replace_shell(self) -> None:
        self.hang_up()
        self.processes.kill_others()
        self._shell = self._start_shell()


def _without_shell(why: ShellLost, seconds: float) -> CommandResult:
    """The result of a command that nothing can run any more, with a shell's exit code for that."""
    said = f"The shell cannot be started any more: {why}"
    return CommandResult(said, 127, shell_restarted=True, duration_s=round(seconds, 4))
