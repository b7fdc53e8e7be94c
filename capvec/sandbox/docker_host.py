"""The connection to Docker, and the message when there is none."""

from __future__ import annotations

import json
import os
import re
import tarfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import docker
import docker.credentials.errors
import docker.errors
import requests.exceptions
import urllib3.exceptions
from docker.constants import MINIMUM_DOCKER_API_VERSION

from capvec.errors import SandboxBroken, SandboxUnavailable, UsageError
from capvec.programs import looked_up
from capvec.sandbox import docker_cli
from capvec.sandbox.docker_api import DockerAPI
from capvec.sandbox.docker_forms import NoDocker
from capvec.sandbox.first_look import info_of, version_of
from capvec.serial import Record
from capvec.storage import no_more_files
from capvec.text import one_line

FAULTS = (
    docker.errors.DockerException,
    docker.credentials.errors.StoreError,  # these two are no DockerException
    docker.errors.StreamParseError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    json.JSONDecodeError,
    tarfile.TarError,
    OSError,
)
"""Everything that a call of the Docker SDK raises where Docker, the way there or the user's Docker settings fail."""
TIMEOUT_S, LOOK_S, PROBE_S = 120.0, 60.0, 10.0
"""Seconds to wait for an answer: of a busy Docker to a request, of one that is asked what it is, and of one that is
only asked whether it is there."""


@dataclass(frozen=True)
class DockerHost(Record):
    """One Docker."""

    name: str = ""
    """An address such as `tcp://10.0.0.5:2375`, or a context of Docker's command line; empty for the Docker of the
    environment: at `DOCKER_HOST`, in the context of the user, or at the local socket."""
    tunnel: str = ""
    """The address of the near end of the tunnel through which it is reached; empty where there is none."""
    cpus: int = 1
    """It gets trials in proportion to these."""

    def __str__(self) -> str:
        """For messages: its name after a space, if it has one."""
        return f" at {self.name}" if self.name else ""

    @property
    def environment(self) -> dict[str, str]:
        """The variables by which the SDK and Docker's command line find it."""
        whole = looked_up(lambda: dict(os.environ))
        if not self.name:
            return whole
        kept = {name: value for name, value in whole.items() if name not in ("DOCKER_HOST", "DOCKER_CONTEXT")}
        if self.tunnel or is_address(self.name):
            return kept | {"DOCKER_HOST": self.tunnel or self.name}
        return kept | {"DOCKER_CONTEXT": self.name}


HERE = DockerHost()
"""The Docker of the environment."""


def is_address(name: str) -> bool:
    """Whether a host is named by an address; else it is a context."""
    return "://" in name


class HostClient(docker.DockerClient):  # type: ignore[misc]
    """A client with bounds that knows which host it is connected to, and what that says of its version."""

    host = HERE
    said: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        self.api = DockerAPI(*arguments, **settings)


def check_docker(host: DockerHost = HERE) -> dict[str, Any]:
    """Check that Docker answers, and can pause and limit containers. Returns its version record.

    Raises:
        SandboxUnavailable: it does not answer as Docker does; the message says what was tried and what to do.
        UsageError: it answers, and can do neither.
    """
    with connect(host, timeout_s=LOOK_S) as client:
        check_cgroups(info_of_host(client, LOOK_S), host)
        return dict(client.said)


def info_of_host(client: HostClient, timeout_s: float) -> dict[str, Any]:
    """What a Docker says of itself (`docker info`): it has `NCPU` and `ServerVersion`.

    Args:
        client: connected to it.
        timeout_s: seconds for the whole answer.

    Raises:
        SandboxUnavailable: it does not answer, or not as Docker does.
    """
    with _met(client.host):
        return info_of(client, timeout_s)


def check_cgroups(info: Mapping[str, Any], host: DockerHost = HERE) -> None:
    """Check that a Docker has cgroups. A rootless one has none on a machine with cgroup v1, and says so in a warning.

    Args:
        info: what Docker says of itself (`docker info`).
        host: the Docker, for the message.

    Raises:
        UsageError: it has none, so that its containers have no limits and cannot be paused.
    """
    if info.get("CgroupDriver") == "none":
        raise UsageError(
            f"Docker{host} runs without cgroups, as rootless Docker does on a machine with cgroup v1: its containers "
            "have no limits and cannot be paused. Boot the machine with cgroup v2, or name the Docker of root in "
            "DOCKER_HOST"
        )


@contextmanager
def connect(host: DockerHost = HERE, *, timeout_s: float = TIMEOUT_S) -> Iterator[HostClient]:
    """A client of a Docker, closed when the context ends.

    Args:
        host: the Docker.
        timeout_s: seconds to wait for an answer.

    Raises:
        SandboxUnavailable: nothing answers there, or not as Docker does.
    """
    environment = host.environment

    def client_of(version: str) -> HostClient:
        client: HostClient = HostClient.from_env(version=version, timeout=timeout_s, environment=environment)
        return client

    with _met(host):
        context = docker_cli.context_name(environment)
        if docker.ContextAPI.get_context(context) is None:  # the SDK would take the local socket, without a word
            raise docker.errors.ContextNotFound(context)
        with closing(client_of(MINIMUM_DOCKER_API_VERSION)) as oldest:
            said = version_of(oldest, timeout_s)
        client = client_of(said["ApiVersion"])
        client.host, client.said = host, said
    try:
        yield client
    finally:
        client.close()


@contextmanager
def _met(host: DockerHost) -> Iterator[None]:
    """Turn whatever keeps a Docker from being met into one sentence."""
    try:
        yield
    except NoDocker as error:
        raise SandboxUnavailable(_odd(host, str(error))) from error
    # The SDK parses settings and addresses without a check, so that any error can come of a wrong one.
    except Exception as error:
        if used_up := no_more_files(error):
            raise SandboxUnavailable(f"Docker cannot be reached: {used_up}") from error
        raise SandboxUnavailable(_silent(host, _why(error))) from error


def _odd(host: DockerHost, why: str) -> str:
    """That what answers is no Docker to use, and what to do."""
    if host.name:
        return f"{_named(host)} does not answer as Docker does ({why}). Name another, or leave this --docker-host out"
    return f"what answers at {_address(host)} does not answer as Docker does ({why}). Name another in DOCKER_HOST"


def _named(host: DockerHost) -> str:
    return f"the Docker host {host.name}" if is_address(host.name) else f"the Docker of the context {host.name}"


def _address(host: DockerHost) -> str:
    """Where the Docker of the environment is."""
    context = docker_cli.context_name(host.environment)
    local = "the local socket" if context == "default" else f"the address of the context {context}"
    return os.environ.get("DOCKER_HOST") or local


def _silent(host: DockerHost, why: str) -> str:
    """That a Docker does not answer, and what to do."""
    if host.name:
        there = " at /var/run/docker.sock, or name its socket as in ssh://machine/path/of.sock" if host.tunnel else ""
        return f"{_named(host)} does not answer ({why}). Start `dockerd` there{there}, or leave this --docker-host out"
    return (
        f"Docker does not answer at {_address(host)} ({why}). Start `dockerd`, or run `make setup`, which installs and "
        "starts it where it can; `capvec doctor` lists what is missing"
    )


_TAKEN = re.compile(
    r"no such container: |container \S+ is (?:already |not )?paused|.*: no such container$", re.IGNORECASE
)
"""What Docker and Podman say of a container that was taken away or paused from outside, which no agent in it can do.

Only whole messages count: a name that the agent gave a file may be part of another one.
"""


@contextmanager
def faults() -> Iterator[None]:
    """Turn what the Docker SDK raises into `SandboxUnavailable`, and a refusal of Docker's into `SandboxBroken`.

    Of the latter nobody is to blame yet: the agent is where Docker refuses again, after all went well in a container
    that no agent reached (`capvec.run.control`).
    """
    try:
        yield
    except FAULTS as error:
        refused = isinstance(error, docker.errors.APIError) and not _TAKEN.match(reason(error))
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # the SDK leaves the connection of a failed streaming call open
        why = no_more_files(error) or reason(error)
        raise (SandboxBroken if refused else SandboxUnavailable)(f"Docker failed: {why}") from error


class Lifeline:
    """A connection that lasts as long as Docker does. It tells that Docker ended, even where it is back by now.

    A Docker that ends takes its containers with it. One that is started again afterwards is not what the agent left.
    """

    def __init__(self, client: HostClient) -> None:
        """Open the connection: a stream of events, of which there are none."""
        self._host = client.host
        self._stream = client.events(filters={"label": "capvec.lifeline"})
        self._cut = threading.Event()
        threading.Thread(target=self._wait, name="docker-lifeline", daemon=True).start()

    def check(self) -> None:
        """Make sure that Docker has run since the connection was opened, and is not about to end.

        Raises:
            SandboxUnavailable: it has not, or is.
        """
        with connect(
            self._host, timeout_s=PROBE_S
        ):  # one that ends refuses new connections first, and then ends its containers
            if self._cut.is_set():
                raise SandboxUnavailable("Docker was restarted, and ended the container of the trial")

    def close(self) -> None:
        """Close the connection."""
        if not self._cut.is_set():
            with suppress(AttributeError, *FAULTS):  # the SDK looks for a socket that may be gone by now
                self._stream.close()

    def _wait(self) -> None:
        with suppress(AttributeError, ValueError, *FAULTS):
            for _ in self._stream:
                pass
        self._cut.set()


def _why(error: BaseException) -> str:
    """The system's reason for a failed connection, without the exceptions that the SDK and requests wrap it in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason(error)


def reason(error: BaseException) -> str:
    """What Docker or the SDK said, on one line."""
    said = error.strerror if isinstance(error, TimeoutError) else getattr(error, "explanation", None)
    text = str(said or error)
    return one_line(text) or type(error).__name__
