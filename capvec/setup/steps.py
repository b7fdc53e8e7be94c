"""The steps of set-up: Docker and what runs in it one after another, and the bundled model beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from capvec.sandbox.hosts import reach
from capvec.setup.base_image import ensure_base_image
from capvec.setup.docker import ensure_docker
from capvec.setup.model import model_meanwhile
from capvec.setup.plugins import ensure_plugins


def set_up(say: Callable[[str], None] = print, docker_hosts: Sequence[str] = ()) -> None:
    """Prepare Docker, its plugins, the base image of the sandboxes and the bundled model, as far as they are missing.

    Args:
        say: prints one line of progress.
        docker_hosts: as `--docker-host` names them. Where there are any, no Docker is installed here, and the first
            gets the base image, since runs copy images from it to the others.

    Raises:
        UsageError: something is missing and cannot be installed here. The message says what to do.
        SandboxUnavailable: Docker stopped answering meanwhile.
    """
    with model_meanwhile(say):
        if not docker_hosts:
            ensure_docker(say)
        ensure_plugins(say)
        with reach(docker_hosts) as hosts:
            ensure_base_image(say, hosts.hosts[0])
