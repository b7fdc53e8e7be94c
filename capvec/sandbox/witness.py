"""A container beside one that Docker refuses to work with: what goes well there is no fault of Docker's."""

from __future__ import annotations

from typing import Any

import docker

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker_host import FAULTS, reason
from capvec.sandbox.programs import start_program
from capvec.sandbox.root_work import Origin, beside


def check_host(client: docker.DockerClient, container: str) -> None:
    """Make sure that a container is there, and that Docker starts a program in a fresh one of its image.

    Args:
        client: connected to the container's Docker.
        container: its name.

    Raises:
        SandboxUnavailable: Docker starts none, which no agent in the container can bring about.
        docker.errors.APIError: the container is gone.
    """
    api: Any = client.api
    origin = Origin.of(client, container)
    try:
        with beside(client, container, origin, ["sleep", "infinity"]) as fresh:
            _, stream = start_program(api, fresh.id, ["sh", "-c", ":"])
            stream.close()
    except FAULTS as error:
        raise SandboxUnavailable(f"Docker fails in a fresh container, too: {reason(error)}") from error
