"""What a task asks for, as its folder says: instruction, environments, verifier, and the steps of one with several."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from capvec.serial import Record

Capabilities = Literal["none", "default"]
"""Linux capabilities of a container: none but those that its task adds, or also those of a plain Docker container."""


@dataclass(frozen=True)
class Limits(Record):
    """The resources of one container."""

    cpus: float = 1.0
    memory_mb: int = 2048
    pids: int = 1024
    storage_mb: int = 2048
    """What the container may write to the disk."""
    network: bool = False
    cap_add: tuple[str, ...] = ()
    """Linux capabilities that `task.toml` asks for, each with a reason there."""


@dataclass(frozen=True)
class Healthcheck(Record):
    """A command that tells whether a container is ready, with the meaning of Docker's `HEALTHCHECK`."""

    command: str
    interval_s: float = 5.0
    timeout_s: float = 30.0
    start_period_s: float = 0.0
    """Failures within this time do not count."""
    start_interval_s: float = 5.0
    retries: int = 3
    """Failures in a row after which the container counts as broken."""


@dataclass(frozen=True)
class Environment(Record):
    """One container of a task, or several where its folder has a `docker-compose.yaml`."""

    folder: str = "environment"
    """The folder with its Dockerfile, as a path in the task's folder."""
    image: str | None = None
    """A ready image to use instead of building the Dockerfile."""
    compose: bool = False
    """Whether the folder has a `docker-compose.yaml`, with services beside the agent's container `main`."""
    build_timeout_s: float = 600.0
    limits: Limits = field(default_factory=Limits)
    env: Mapping[str, str] = field(default_factory=dict)
    """Environment variables of the container, for every program in it."""
    workdir: str | None = None
    """Where programs start; None for the image's own."""
    healthcheck: Healthcheck | None = None


@dataclass(frozen=True)
class Phase(Record):
    """How the agent acts in the container."""

    timeout_s: float = 600.0
    """Seconds for all its commands together."""
    user: str | None = None
    """Name or number; None for the image's own."""
    network: bool | None = None
    """Whether it reaches the public network; None for as the container is."""


@dataclass(frozen=True)
class Collect(Record):
    """A command that saves what a service holds in memory, before the artifacts are copied."""

    command: str
    service: str = "main"
    timeout_s: float = 60.0
    user: str | None = None


@dataclass(frozen=True)
class Artifact(Record):
    """A file or folder that is copied from a container of the agent's to the verifier's, to the same path."""

    source: str
    exclude: tuple[str, ...] = ()
    """Patterns of names in a folder that are left out."""
    service: str = "main"
    destination: str = ""
    """Where Harbor keeps its copy, in its folder of artifacts; empty for the path itself. It decides only which of two
    services' artifacts is copied where these overlap."""


@dataclass(frozen=True)
class Verifier(Record):
    """How an attempt is judged."""

    timeout_s: float = 600.0
    env: Mapping[str, str] = field(default_factory=dict)
    user: str | None = None
    """Name or number; None for the image's own."""
    network: bool | None = None
    """Whether it reaches the public network; None for as the container is."""
    environment: Environment | None = None
    """Its own container; None where it runs in the agent's."""
    tests: tuple[str, ...] = ("tests",)
    """Folders in the task's folder whose content becomes `/tests`, later ones over earlier ones; empty where the image
    of its own container has `/tests` already."""
    collect: tuple[Collect, ...] = ()


@dataclass(frozen=True)
class TaskStep(Record):
    """One instruction of a task, and how it is judged. Most tasks have one step."""

    name: str
    """Empty for the only step of a task without `[[steps]]`."""
    instruction: str
    agent: Phase = field(default_factory=Phase)
    verifier: Verifier = field(default_factory=Verifier)
    artifacts: tuple[Artifact, ...] = ()
    healthcheck: Healthcheck | None = None
    min_reward: Mapping[str, float] = field(default_factory=dict)
    """Reward → the least value with which the next step follows."""


@dataclass(frozen=True)
class Task(Record):
    """An instruction, an environment and a verifier, read from a Harbor task folder."""

    name: str
    """Unique within a sweep; letters, digits, `.`, `_` and `-`."""
    path: Path
    instruction: str
    """Of a task with several steps, that of the first."""
    checksum: str
    """SHA-256 over the folder's files, hex."""
    environment: Environment = field(default_factory=Environment)
    agent: Phase = field(default_factory=Phase)
    verifier: Verifier = field(default_factory=Verifier)
    artifacts: tuple[Artifact, ...] = ()
    skills_dir: str | None = None
    """Folder of the container with skills for the agent."""
    solution_env: Mapping[str, str] = field(default_factory=dict)
    several: tuple[TaskStep, ...] = ()
    """The steps of a task with `[[steps]]`; empty for others."""
    step_reward: Literal["mean", "final"] = "mean"
    """Whether the reward is the mean over the steps or that of the last one."""
    metadata: Mapping[str, Any] = field(default_factory=dict)

    @property
    def steps(self) -> tuple[TaskStep, ...]:
        """Every step, in order; at least one."""
        return self.several or (TaskStep("", self.instruction, self.agent, self.verifier, self.artifacts),)

    @property
    def environments(self) -> tuple[Environment, ...]:
        """The agent's container, and those that a verifier has for itself."""
        found = [self.environment]
        for step in self.steps:
            if step.verifier.environment is not None and step.verifier.environment not in found:
                found.append(step.verifier.environment)
        return tuple(found)
