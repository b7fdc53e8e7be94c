"""Whether a running container reaches the public network."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, cast

import docker

from capvec.records import Environment, Task, TaskStep

PUBLIC, CLOSED = "bridge", "none"


class Connection:
    """One container's connection to the public network, which phases of a task open and close."""

    def __init__(self, client: docker.DockerClient, container: str, *, wanted: Iterable[bool]) -> None:
        """Decide how the container is created.

        Args:
            client: connected to the container's Docker.
            container: its name; it does not exist yet.
            wanted: what the phases ask for, first the one in which the container starts.
        """
        self._api, self._container = cast("Any", client.api), container
        self.default, *_ = asked = tuple(wanted)
        """What holds where a phase says nothing."""
        self._public = any(asked)
        self.mode = PUBLIC if self._public else CLOSED
        """The container's `network_mode`. A container without network could not be given one that resolves names."""

    def set(self, public: bool | None) -> None:
        """Open or close the public network; None is the container's default."""
        public = self.default if public is None else public
        if public != self._public:
            change = self._api.connect_container_to_network if public else self._api.disconnect_container_from_network
            change(self._container, PUBLIC)
            self._public = public


def wanted_by_agent(task: Task) -> tuple[bool, ...]:
    """What the phases in the agent's container ask for."""
    default = task.environment.limits.network
    phases = [step.agent.network for step in task.steps]
    phases += [step.verifier.network for step in task.steps if step.verifier.environment is None]
    return (default, *(default if phase is None else phase for phase in phases))


def wanted_by_verifier(environment: Environment, step: TaskStep) -> tuple[bool, ...]:
    """The same in a verifier's own container."""
    default = environment.limits.network
    return (default, default if step.verifier.network is None else step.verifier.network)
