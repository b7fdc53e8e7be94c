"""The base image of the bundled tasks: whether Docker has it, and how it gets there."""

from __future__ import annotations

import threading
from contextlib import suppress
from pathlib import Path

import docker.errors

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker_host import FAULTS, HERE, DockerHost, connect, faults
from capvec.sandbox.pulling import pull_image

REPOSITORY, TAG = "debian", "bookworm-slim"
BASE_IMAGE = f"{REPOSITORY}:{TAG}"


def has_base_image(host: DockerHost = HERE) -> bool:
    """Whether a Docker has the base image.

    Raises:
        SandboxUnavailable: Docker does not answer.
    """
    with connect(host) as client, faults():
        try:
            client.images.get(BASE_IMAGE)
        except docker.errors.ImageNotFound:
            return False
        return True


def pull_base_image(repository: str = REPOSITORY, *, host: DockerHost = HERE, limit_s: float = 300.0) -> bool:
    """Pull the base image. Returns False if no registry answers in time or has it.

    Args:
        repository: `HOST:PORT/NAME` for another registry.
        host: the Docker that pulls it.
        limit_s: seconds until the attempt ends; the image has 30 MB.

    Raises:
        SandboxUnavailable: Docker does not answer.
    """
    with connect(host) as client, faults():
        client.ping()
    pulled = threading.Event()
    # The SDK has no timeout for a pull.
    thread = threading.Thread(target=_pull, args=(host, repository, pulled), daemon=True)
    thread.start()
    thread.join(limit_s)
    return pulled.is_set()


def _pull(host: DockerHost, repository: str, pulled: threading.Event) -> None:
    # Docker answered a moment ago, so what fails from here on is the registry or the way there.
    with (
        suppress(*FAULTS, SandboxUnavailable),
        connect(host) as client,
    ):
        pull_image(client, f"{repository}:{TAG}", say=lambda _line: None)
        pulled.set()


def import_base_image(archive: Path, repository: str = REPOSITORY, *, host: DockerHost = HERE) -> None:
    """Make the base image from an archive of a root file system.

    Raises:
        SandboxUnavailable: Docker does not answer, or refuses the archive.
    """
    with connect(host) as client, faults():
        # `CMD` as in the registry's image.
        answer = client.api.import_image_from_file(
            str(archive), repository=repository, tag=TAG, changes=['CMD ["bash"]']
        )
        try:
            client.images.get(f"{repository}:{TAG}")
        except docker.errors.ImageNotFound as error:
            # An error in the middle of the import arrives inside a reply that counts as a success.
            raise SandboxUnavailable(f"Docker did not import {archive}: {answer.strip()}") from error
