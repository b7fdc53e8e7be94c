"""Removing what trials left: that of a trial that ended, and that of runs that were killed.

This is its container, or the containers, networks and volumes of its compose projects.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any, cast

import docker
import docker.errors
import psutil

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker_forms import NoDocker
from capvec.sandbox.docker_host import HERE, DockerHost, connect, faults, reason
from capvec.text import counted

RUN_LABEL, TRIAL_LABEL, PID_LABEL = "capvec.run", "capvec.trial", "capvec.pid"
PROJECT_LABEL = "com.docker.compose.project"
STOPPED = {"exited", "dead"}
LATE_S = 2.0
"""Seconds after an interrupted request in which Docker may still create the container."""


def reap(run: str | None = None, hosts: Iterable[DockerHost] = (HERE,)) -> int:
    """Remove what runs left whose process is gone, and what this process started for `run`.

    What belongs to another sweep that still runs is left alone, also if it is called the same.

    Returns:
        The number of containers.

    Raises:
        SandboxUnavailable: a host does not answer; what the others have is removed.
    """
    this = owner_label(os.getpid())

    def is_left(labels: Mapping[str, str], state: str) -> bool:
        own = run is not None and labels.get(RUN_LABEL) == run and labels[PID_LABEL] == this
        return own or is_orphan(labels[PID_LABEL], state)

    return _remove_all(hosts, is_left)


def reap_and_say(say: Callable[[str], None], run: str | None = None, hosts: Iterable[DockerHost] = (HERE,)) -> None:
    """`reap`, and say how many containers were left if any was."""
    if removed := reap(run, hosts):
        say(f"removed {counted(removed, 'container')} of earlier runs")


def reap_trial(run: str, trial: str, hosts: Iterable[DockerHost] = (HERE,)) -> int:
    """Remove what this process left of a trial, its control included. Returns and raises as `reap`."""
    left, owner = (trial, f"{trial}-control"), owner_label(os.getpid())

    def is_left(labels: Mapping[str, str], _state: str) -> bool:
        return labels[PID_LABEL] == owner and labels.get(RUN_LABEL) == run and labels.get(TRIAL_LABEL) in left

    return _remove_all(hosts, is_left)


def _remove_all(hosts: Iterable[DockerHost], chosen: Callable[[Mapping[str, str], str], bool]) -> int:
    """Remove what is chosen by its labels and, of a container, its state. Returns the number of containers."""
    removed, silent = 0, None
    for host in hosts:
        try:
            removed += _remove_on(host, chosen)
        except SandboxUnavailable as error:
            silent = silent or error
    if silent is not None:
        raise silent
    return removed


def _remove_on(host: DockerHost, chosen: Callable[[Mapping[str, str], str], bool]) -> int:
    removed = 0
    with connect(host) as client, faults():
        for container in client.api.containers(all=True, filters={"label": PID_LABEL}):
            if PID_LABEL in (labels := container["Labels"] or {}) and chosen(labels, container["State"]):
                removed += remove(client, container["Id"])
        _remove_networks_and_volumes(client, PID_LABEL, lambda labels: PID_LABEL in labels and chosen(labels, ""))
    return removed


def remove_project(client: docker.DockerClient, project: str) -> None:
    """Remove the containers, networks and volumes of a compose project.

    Raises:
        SandboxUnavailable: Docker refuses.
    """
    label = f"{PROJECT_LABEL}={project}"
    with faults():
        for container in client.api.containers(all=True, filters={"label": label}):
            remove(client, container["Id"])
        _remove_networks_and_volumes(client, label, lambda _labels: True)


def _remove_networks_and_volumes(
    client: docker.DockerClient, label: str, chosen: Callable[[Mapping[str, str]], bool]
) -> None:
    """Remove the chosen ones of those with a label, unless a container uses them."""
    api = cast("Any", client.api)
    for network in api.networks(filters={"label": label}):
        if chosen(network["Labels"] or {}):
            with _unless_in_use():
                api.remove_network(network["Id"])
    for volume in api.volumes(filters={"label": label})["Volumes"] or ():
        if chosen(volume["Labels"] or {}):
            with _unless_in_use():
                api.remove_volume(volume["Name"], force=True)


@contextmanager
def _unless_in_use() -> Iterator[None]:
    try:
        yield
    except docker.errors.APIError as error:
        if error.status_code not in (403, 404, 409):  # in use, gone, or another process is removing it
            raise


def remove(client: docker.DockerClient, container: str) -> int:
    """Remove a container by force. Returns 1 if it existed, else 0.

    Raises:
        SandboxUnavailable: Docker refuses.
    """
    try:
        client.api.remove_container(container, force=True, v=True)
    except docker.errors.NotFound:
        return 0
    except docker.errors.APIError as error:
        if error.status_code == 409:  # another process is removing it
            return 0
        raise SandboxUnavailable(f"cannot remove container {container}: {reason(error)}") from error
    except (NoDocker, OSError):
        return 0  # Docker is gone; the next run removes the container
    return 1


def remove_late(client: docker.DockerClient, container: str) -> None:
    """Remove a container whose creation was interrupted: Docker completes a request even if its caller has left."""
    deadline = time.monotonic() + LATE_S
    while not remove(client, container) and time.monotonic() < deadline:
        time.sleep(0.1)


def owner_label(pid: int) -> str:
    """The label that identifies a process: `node/boot/PID namespace/PID/start`.

    The start is counted from the boot, so that neither a later process with the same PID nor a change of the clock
    makes two processes seem one.

    Raises:
        psutil.NoSuchProcess: there is no such process, or it is a zombie.
    """
    return "/".join((*_machine(), str(pid), _start(pid)))


def is_orphan(owner: str, state: str) -> bool:
    """Whether the process of a label is gone, as far as this process can know.

    Processes of another machine, of another PID namespace or of an earlier boot cannot be looked up. Their containers
    count as orphans once they no longer run, since nothing uses a stopped sandbox.
    """
    *machine, pid, _ = ["", *owner.split("/")]
    if tuple(machine[1:]) != _machine() or not pid.isdigit():
        return state in STOPPED
    try:
        return owner_label(int(pid)) != owner
    except psutil.NoSuchProcess:
        return not _exists_unseen(int(pid))


@cache
def _machine() -> tuple[str, str, str]:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = os.readlink("/proc/self/ns/pid")
    except OSError:  # not Linux: `_start` is a date, which tells boots apart
        return platform.node(), "-", "-"
    return platform.node(), boot, namespace


def _start(pid: int) -> str:
    """Clock ticks from the boot to the start of a process; its date where there is no /proc."""
    if not Path("/proc/self/stat").exists():
        return f"{psutil.Process(pid).create_time():.2f}"
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError) as error:
        raise psutil.NoSuchProcess(pid) from error
    # Fields after the name, which may hold anything but ends with the last bracket: state is 3, starttime is 22.
    fields = text.rpartition(")")[2].split()
    if fields[0] in {"Z", "X"}:
        raise psutil.NoSuchProcess(pid)  # it ended, and its parent has not waited for it yet
    return fields[19]


def _exists_unseen(pid: int) -> bool:
    """Whether /proc hides this process from us because it is another user's (`hidepid`)."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return False
