"""Copies images from one Docker host to another, and tells whether those of two hosts have the same content."""

from __future__ import annotations

from typing import Any, cast

import docker.errors

from capvec.errors import UsageError
from capvec.sandbox.building import Say
from capvec.sandbox.docker_host import HostClient
from capvec.sandbox.images import Image

COPY_S = 3600.0
"""Seconds to wait for an answer while an image is copied: some Dockers write all of it to a file first."""
_CONFIG = ("Cmd", "Entrypoint", "Env", "Healthcheck", "User", "Volumes", "WorkingDir")


def copy_image(source: HostClient, target: HostClient, image: Image, say: Say) -> None:
    """Copy an image of a task, unless the other host has it already.

    Another image of the same name is replaced where capvec built it, and left where it is a `docker_image`. An image
    that is named by its digest is not copied, since Docker keeps no such name of a copy: the other host pulls it.

    Args:
        source: a host that has it.
        target: the other host.
        image: the image.
        say: takes the line that it is copied.
    """
    name = image.tag or image.source
    there = _content(target, name)
    if "@" in name or there == _content(source, name) or (there is not None and not image.tag):
        return
    say(f"copying the image {name} to {target.host.name}")
    target.images.load(cast("Any", source.api).get_image(name))


def check_alike(task: str, one: Image, source: HostClient, other: Image, target: HostClient) -> None:
    """Check that an image of a task has one content on two hosts.

    Compared are architecture, layers, and what the image says of its containers; not the ids, which depend on how a
    Docker keeps its images.

    Raises:
        UsageError: it has not.
    """
    if _content(source, one.id) != _content(target, other.id):
        raise UsageError(
            f"task {task}: {one.source} is another image on {target.host.name} ({other.id}) than on "
            f"{source.host.name} ({one.id}): remove it from {target.host.name} (`docker rmi {one.source}`), and it is "
            "copied"
        )


def _content(client: HostClient, name: str) -> dict[str, Any] | None:
    """What decides how containers of an image behave; None where there is no such image."""
    try:
        about = cast("Any", client.api).inspect_image(name)
    except docker.errors.ImageNotFound:
        return None
    config = about["Config"] or {}
    layers = (about.get("RootFS") or {}).get("Layers") or []
    return {
        "architecture": about["Architecture"],
        "layers": layers,
        **{key: config.get(key) or None for key in _CONFIG},
    }
