"""Creates the container of an environment, hardened, with the ENTRYPOINT, user and folders that it has in Harbor."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any, cast

import docker

from capvec.errors import EnvironmentFault, UsageError
from capvec.sandbox import files
from capvec.sandbox.base import LOG_FOLDERS
from capvec.sandbox.building import Say
from capvec.sandbox.docker_host import HostClient
from capvec.sandbox.images import find_image, prepare_image
from capvec.sandbox.network import CLOSED, PUBLIC, Connection
from capvec.sandbox.reaper import PID_LABEL, RUN_LABEL, TRIAL_LABEL, owner_label, remove, remove_late
from capvec.sandbox.storage import create_container
from capvec.task_records import Capabilities, Environment, Limits, Task

KEEPER = "65531:65531"
"""User of the container's own two processes, init and its child. Without CAP_KILL no agent can end them, not even with
`kill -9 -1`. An agent of that user could, and act in them while the verifier runs, so it is none that images have:
65534 is `nobody`, and 65532 `nonroot`. Where there are capabilities both are root's instead: Docker gives no
capabilities to the execs of a container whose own user is not root. An ENTRYPOINT runs as the image's user."""
COMMAND = ["sh", "-c", "sleep infinity"]
"""What a container with an ENTRYPOINT is asked to run, as by Harbor."""
_FIRST = ("/init", "/sbin/init", "/lib/systemd/systemd", "/usr/lib/systemd/systemd")
"""An ENTRYPOINT that must be the first process."""


@dataclass(frozen=True)
class ImageConfig:
    """What an image says of its containers."""

    id: str
    user: str
    """As in its Dockerfile, or root."""
    workdir: str
    entrypoint: tuple[str, ...]
    healthcheck: bool
    """Whether it has a HEALTHCHECK."""

    @classmethod
    def of(cls, client: HostClient, task: Task, environment: Environment, say: Say) -> ImageConfig:
        """The image of an environment, built where Docker does not have it."""
        image = find_image(client, task, environment) or prepare_image(client, task, environment, say)
        return cls.inspect(client, image.id)

    @classmethod
    def inspect(cls, client: docker.DockerClient, found: str) -> ImageConfig:
        """An image that Docker has, by its id."""
        config: dict[str, Any] = cast("Any", client.api).inspect_image(found)["Config"] or {}
        return cls(
            id=found,
            user=config.get("User") or "0",
            workdir=config.get("WorkingDir") or "/",
            entrypoint=tuple(config.get("Entrypoint") or ()),
            healthcheck=bool(config.get("Healthcheck")),
        )


@dataclass(frozen=True)
class Started:
    """A container that runs."""

    name: str
    image: ImageConfig
    workdir: str
    capable: bool
    """Whether its own processes are root's with Docker's default capabilities."""
    connection: Connection | None
    """None where the network is one for all phases."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """Service beside the container → name of its container."""


@dataclass(frozen=True)
class StartSettings:
    """How the containers of an environment are started, whatever is in them."""

    name: str
    """Of the agent's or the verifier's container; the names of services beside it begin with it."""
    wanted: Sequence[bool]
    """Whether each phase wants the public network. The first is the default."""
    capabilities: Capabilities
    labels: Mapping[str, str]
    cleanup: ExitStack
    """Removes what was started when it ends."""

    def is_capable(self, image: ImageConfig) -> bool:
        """Whether the own processes of a container of this image are root's with Docker's default capabilities."""
        return self.capabilities == "default" and image.user in ("0", "root")


def start_container(
    client: docker.DockerClient, image: ImageConfig, environment: Environment, settings: StartSettings
) -> Started:
    """Create a container and start it."""
    name, wanted = settings.name, settings.wanted
    # A container without network could not be given one that resolves names.
    public = any(wanted)
    connection = Connection(client, [name], network=PUBLIC, default=wanted[0], connected=public)
    asked = {
        **settings_of(client, image, environment, settings.capabilities),
        "healthcheck": {"test": ["NONE"]},
        "network_mode": PUBLIC if public else CLOSED,
        "environment": dict(environment.env),
        "labels": dict(settings.labels),
    }
    settings.cleanup.callback(remove, client, name)
    try:
        container = create_container(client, image.id, environment.limits.storage_mb, name=name, **asked)
    except KeyboardInterrupt:
        remove_late(client, name)
        raise
    cast("Any", client.api).put_archive(name, "/", files.folders(("/logs", *LOG_FOLDERS)))
    connection.set(None)
    container.start()
    return Started(name, image, environment.workdir or image.workdir, settings.is_capable(image), connection)


def settings_of(
    client: docker.DockerClient, image: ImageConfig, environment: Environment, capabilities: Capabilities
) -> dict[str, Any]:
    """Limits, privileges and own processes of the container of an environment."""
    return {
        **_limits(client, environment.limits),
        **privileges(capabilities, environment.limits),
        **_own_processes(image, environment, capabilities),
    }


def new_name() -> str:
    """A container's name, known before the container exists, so that nothing can be lost between the two."""
    return f"capvec-{uuid.uuid4().hex[:20]}"


def labels_of(run: str, trial: str) -> dict[str, str]:
    """The labels by which the reaper finds the containers of a trial of this process."""
    return {RUN_LABEL: run, TRIAL_LABEL: trial, PID_LABEL: owner_label(os.getpid())}


def check_runs(client: docker.DockerClient, started: Started) -> None:
    """Check that the image's ENTRYPOINT has not ended.

    Raises:
        EnvironmentFault: it has; the message carries the end of its output.
    """
    state: Any = cast("Any", client.api).inspect_container(started.name)["State"]
    if not state["Running"]:
        said = client.containers.get(started.name).logs(tail=5).decode(errors="replace").strip()
        raise EnvironmentFault(
            f"the image's ENTRYPOINT {' '.join(started.image.entrypoint)} ended with exit code {state['ExitCode']} "
            f"and printed: {said[-400:] or 'nothing'}"
        )


def check_workdir(client: docker.DockerClient, container: str, task: Task, environment: Environment) -> None:
    """Check that a container has the working directory of its environment.

    Raises:
        UsageError: it has not.
    """
    workdir = environment.workdir
    if workdir is not None and not files.is_folder(client.api, container, workdir):
        raise UsageError(f"task {task.name}: workdir = {workdir!r} is no folder of the image; expected one that it has")


def root_reads_all(environment: Environment, agents: Iterable[str]) -> Environment:
    """The environment of agents, in which root may read and write every file if none of them is root.

    A verifier of root's reads what such an agent wrote for itself alone, as it does in a plain container. The agent
    gains nothing, since no program of its may gain privileges.
    """
    if any(agent.partition(":")[0] in ("0", "root") for agent in agents):
        return environment
    limits = environment.limits
    added = tuple(dict.fromkeys((*limits.cap_add, "DAC_OVERRIDE")))
    return replace(environment, limits=replace(limits, cap_add=added))


def _own_processes(image: ImageConfig, environment: Environment, capabilities: Capabilities) -> dict[str, Any]:
    if image.entrypoint:
        return {
            "command": COMMAND,
            "user": image.user,
            "working_dir": environment.workdir or image.workdir,
            "init": image.entrypoint[0] not in _FIRST,
        }
    hardened = capabilities == "none" and not environment.limits.cap_add
    return {
        "entrypoint": ["sleep"],
        "command": ["infinity"],
        "user": KEEPER if hardened else "0",
        "working_dir": "/",  # of the keepers, who may have no access to the image's
        "init": True,
    }


def privileges(capabilities: Capabilities, limits: Limits) -> dict[str, Any]:
    """What a container may do as root."""
    if capabilities == "default":
        return {"cap_add": list(limits.cap_add)}
    return {"cap_drop": ["ALL"], "cap_add": list(limits.cap_add), "security_opt": ["no-new-privileges"]}


def most_cpus(client: docker.DockerClient, cpus: float) -> float:
    """A number of CPUs that the machine has: Docker refuses more. Every machine has one, so most need not ask."""
    return cpus if cpus <= 1 else min(cpus, float(client.info()["NCPU"]))


def _limits(client: docker.DockerClient, limits: Limits) -> dict[str, Any]:
    memory = f"{limits.memory_mb}m"
    return {
        "pids_limit": limits.pids,
        "mem_limit": memory,
        "memswap_limit": memory,
        "nano_cpus": int(most_cpus(client, limits.cpus) * 1e9),
    }
