"""Pulls images, without credentials where the helper that has them fails."""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import docker
import docker.errors
import docker.utils

from capvec.sandbox import docker_cli
from capvec.sandbox.docker_host import FAULTS, reason
from capvec.text import one_line

_PROGRESS_S = 15.0


def pull_image(client: docker.DockerClient, name: str, *, say: Callable[[str], None]) -> str:
    """Pull an image. Returns its id.

    Args:
        client: connected to the Docker that will have the image.
        name: with a tag or a digest; without either, the tag is `latest`.
        say: takes a line about a pull that takes long, and about a helper that failed.

    Raises:
        one of FAULTS: the registry or Docker does not give it.
    """
    try:
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # of the helper, which is said below
            return _pull(client, name, say)
    except FAULTS as error:
        if not docker_cli.names_a_helper(str(error)):
            raise
        say(f"a credential helper failed ({reason(error)}); pulling without credentials")
    with tempfile.TemporaryDirectory() as scratch:
        client.api.reload_config(str(docker_cli.without_helpers(Path(scratch) / "settings")))
    return _pull(client, name, say)


def _pull(client: docker.DockerClient, name: str, say: Callable[[str], None]) -> str:
    repository, tag = docker.utils.parse_repository_tag(name)
    told = time.monotonic()
    for entry in client.api.pull(repository, tag=tag or "latest", stream=True, decode=True):
        if (said := entry.get("error")) is not None:
            raise docker.errors.DockerException(said)
        if time.monotonic() - told > _PROGRESS_S:
            told = time.monotonic()
            say(one_line(f"pulling, {entry.get('status', '')} {entry.get('id', '')}"))
    return str(client.images.get(name).id)
