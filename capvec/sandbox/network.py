"""Whether running containers reach the public network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import docker

from capvec.task_records import Environment, Task, TaskStep

PUBLIC, CLOSED = "bridge", "none"


class Connection:
    """The connection of containers to the public network, which phases of a task open and close."""

    def __init__(
        self, client: docker.DockerClient, containers: Sequence[str], *, network: str, default: bool, connected: bool
    ) -> None:
        """Take what was decided when the containers were created.

        Args:
            client: connected to the containers' Docker.
            containers: their names; they exist when `set` is called.
            network: a network of Docker's with a way out.
            default: what holds where a phase says nothing.
            connected: whether they are connected to the network when they are created.
        """
        self._api, self._containers, self._network = cast("Any", client.api), containers, network
        self.default, self._public = default, connected

    def set(self, public: bool | None) -> None:
        """Open or close the public network; None is the default."""
        public = self.default if public is None else public
        if public != self._public:
            change = self._api.connect_container_to_network if public else self._api.disconnect_container_from_network
            for container in self._containers:
                change(container, self._network)
            self._public = public


def wanted_by_agent(task: Task) -> tuple[bool, ...]:
    """What the phases in the agent's container ask for, first what holds where a phase says nothing."""
    default = task.environment.limits.network
    phases = [step.agent.network for step in task.steps]
    phases += [step.verifier.network for step in task.steps if step.verifier.environment is None]
    return (default, *(default if phase is None else phase for phase in phases))


def wanted_by_verifier(environment: Environment, step: TaskStep) -> tuple[bool, ...]:
    """The same in a verifier's own container."""
    default = environment.limits.network
    return (default, default if step.verifier.network is None else step.verifier.network)
