"""The Docker hosts of a run: which of them a trial gets a place on, and which are out.

A place is a lock on a file, by which all processes of a run on this machine see how many trials each host has. The
kernel releases it when its process ends, however it ends.
"""

from __future__ import annotations

import fcntl
import os
import time
import uuid
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from capvec.errors import SandboxUnavailable, UsageError
from capvec.sandbox.docker_host import HERE, LOOK_S, PROBE_S, DockerHost, check_cgroups, connect, info_of_host
from capvec.sandbox.tunnel import tunnel_to
from capvec.serial import Record

REST_S = 20.0
"""Seconds in which a host that failed gets a trial only where all others failed too."""


@dataclass(frozen=True)
class DockerHosts(Record):
    """One Docker or several, which share the trials of a run."""

    hosts: tuple[DockerHost, ...] = (HERE,)
    folder: Path | None = None
    """Of the locks; None where there is one host."""

    def __iter__(self) -> Iterator[DockerHost]:
        """Its hosts, in the user's order."""
        return iter(self.hosts)

    @contextmanager
    def place(self) -> Iterator[DockerHost]:
        """A place on the host that has the fewest trials for its CPUs, until the context ends.

        A host that does not answer is passed over. One on which something fails gets no further trial for `REST_S` if
        another is there.

        Raises:
            SandboxUnavailable: none answers.
        """
        if len(self.hosts) == 1:
            yield self.hosts[0]
            return
        silent: dict[DockerHost, str] = {}
        while len(silent) < len(self.hosts):
            with self._lease(silent) as host:
                if why := _why_silent(host):
                    silent[host] = why
                    self._rest(host)
                    continue
                try:
                    yield host
                except SandboxUnavailable:
                    self._rest(host)
                    raise
                return
        raise SandboxUnavailable(" ".join(silent.values()))

    def check(self) -> None:
        """Make sure that one of the hosts answers.

        Raises:
            SandboxUnavailable: none does.
        """
        silent = []
        for host in self.hosts:
            if not (why := _why_silent(host)):
                return
            silent.append(why)
        raise SandboxUnavailable(" ".join(silent))

    def silent(self) -> tuple[str, ...]:
        """The names of the hosts that do not answer, of several."""
        if len(self.hosts) == 1:
            return ()
        with ThreadPoolExecutor(len(self.hosts)) as pool:
            return tuple(
                host.name for host, why in zip(self.hosts, pool.map(_why_silent, self.hosts), strict=True) if why
            )

    def is_lost(self, name: str) -> bool:
        """Whether a host does not answer, and there are others. It gets no trial for a while."""
        host = next((host for host in self.hosts if host.name == name), None)
        if host is None or len(self.hosts) == 1 or not _why_silent(host):
            return False
        self._rest(host)
        return True

    @contextmanager
    def _lease(self, but: Collection[DockerHost]) -> Iterator[DockerHost]:
        """A place on the host, not one of these, that rests least and has the fewest places for its CPUs."""
        assert self.folder is not None
        with ExitStack() as held:
            with _locked(self.folder / ".choice"):
                number = min(
                    (number for number, host in enumerate(self.hosts) if host not in but),
                    key=lambda number: (self._rests(number), (self._taken(number) + 1) / self.hosts[number].cpus),
                )
                held.enter_context(_locked(self.folder / f"{number}-{uuid.uuid4().hex}", remove=True))
            yield self.hosts[number]

    def _taken(self, number: int) -> int:
        """How many places of a host are taken; what ended processes left is removed."""
        assert self.folder is not None
        return sum(_is_held(file) for file in self.folder.glob(f"{number}-*"))

    def _rests(self, number: int) -> bool:
        with suppress(FileNotFoundError):
            # The clock may have been set back since.
            return abs(time.time() - self._resting(number).stat().st_mtime) < REST_S
        return False

    def _rest(self, host: DockerHost) -> None:
        with suppress(OSError):  # it is passed over again when it is asked
            self._resting(self.hosts.index(host)).touch()

    def _resting(self, number: int) -> Path:
        assert self.folder is not None
        return self.folder / f"resting-{number}"


ALONE = DockerHosts()
"""The Docker of the environment."""


@contextmanager
def reach(names: Sequence[str]) -> Iterator[DockerHosts]:
    """The Docker hosts of these names, checked, with a tunnel to each that is reached by SSH, until the context ends.

    Args:
        names: addresses, or contexts of Docker's command line; none stands for the Docker of the environment.

    Raises:
        SandboxUnavailable: one does not answer, or not as Docker does; the message names it.
        UsageError: one cannot pause or limit containers, is named twice, or has another architecture than the first.
    """
    for name in names:
        if names.count(name) > 1:
            raise UsageError(f"--docker-host {name}: it is given twice; expected once")
    with ExitStack() as held:
        named = [held.enter_context(tunnel_to(name)) for name in names] or [HERE]
        about = [_about(host) for host in named]
        _check_alike(named, about)
        hosts = tuple(replace(host, cpus=info["NCPU"]) for host, info in zip(named, about, strict=True))
        folder = None
        if len(hosts) > 1:
            folder = Path(held.enter_context(TemporaryDirectory(prefix="capvec-hosts-")))
        yield DockerHosts(hosts, folder)


def describe(hosts: DockerHosts) -> list[dict[str, Any]]:
    """What `provenance.json` says of the hosts that were named."""
    described = []
    for host in hosts:
        if host.name:
            about = _about(host)
            version, architecture = about["ServerVersion"], about["Architecture"]
            described.append(
                {"name": host.name, "version": version, "architecture": architecture, "cpus": about["NCPU"]}
            )
    return described


def _about(host: DockerHost) -> dict[str, Any]:
    """What a Docker says of itself."""
    with connect(host, timeout_s=LOOK_S) as client:
        about = info_of_host(client, LOOK_S)
        check_cgroups(about, host)
        # In `info` Docker says x86_64 for what Podman calls amd64.
        return about | {"Architecture": client.said["Arch"]}


def _check_alike(hosts: Sequence[DockerHost], about: Sequence[dict[str, Any]]) -> None:
    known: dict[tuple[str, ...], str] = {}
    for host, info in zip(hosts, about, strict=True):
        # The id alone is that of the machine up to Docker 22, and cloned machines share it.
        docker = tuple(str(info.get(key)) for key in ("ID", "Name", "DockerRootDir"))
        if (same := known.setdefault(docker, host.name)) != host.name:
            raise UsageError(f"--docker-host {same} and {host.name} are the same Docker: name it once")
        if info["Architecture"] != about[0]["Architecture"]:
            raise UsageError(
                f"--docker-host {hosts[0].name} is {about[0]['Architecture']} and {host.name} is "
                f"{info['Architecture']}: expected hosts of one architecture, since images differ between two"
            )


def _why_silent(host: DockerHost) -> str:
    """Why a host does not answer; empty if it does."""
    try:
        with connect(host, timeout_s=PROBE_S):
            return ""
    except SandboxUnavailable as error:
        return str(error)


@contextmanager
def _locked(path: Path, *, remove: bool = False) -> Iterator[None]:
    """Hold the lock of a file, which is made; and removed at the end if that is asked."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        if remove:
            path.unlink(missing_ok=True)
        os.close(descriptor)


def _is_held(path: Path) -> bool:
    """Whether a process holds the lock of a file; one that nobody holds is removed."""
    try:
        with path.open() as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink(missing_ok=True)
            return False
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
