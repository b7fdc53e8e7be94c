"""The files of users and groups, which Docker itself opens when it starts a program in a container or reads its files.

An agent may put anything in their place. At a pipe Docker would wait for ever, and the container could not be removed
any more. Where a file is a folder, leads nowhere or has lines without end, no program can be started.
"""

from __future__ import annotations

import io
import tarfile
from contextlib import ExitStack
from typing import Any, cast

import docker

from capvec.sandbox import files
from capvec.sandbox.reaper import remove
from capvec.sandbox.root_work import Origin
from capvec.sandbox.users import GROUP, PASSWD

LIMIT = 1 << 16
"""Bytes of a file; Docker reads no longer line."""


def are_readable(client: docker.DockerClient, container: str) -> bool:
    """Whether each of the files is a regular file within `LIMIT`, or missing. Neither is opened for that."""
    sizes = (files.size_of(client.api, container, path) for path in (PASSWD, GROUP))
    return all(size is not None and size < LIMIT for size in sizes)


def restore_accounts(client: docker.DockerClient, container: str, origin: Origin) -> None:
    """Put the image's files of users and groups, or empty ones, in the place of what a container has there.

    Args:
        client: connected to the container's Docker.
        container: name of the container, which is stopped or paused.
        origin: what the container was before the agent.
    """
    name, api = f"{container}-accounts", cast("Any", client.api)
    buffer = io.BytesIO()
    with ExitStack() as cleanup, tarfile.open(fileobj=buffer, mode="w") as archive:
        cleanup.callback(remove, client, name)
        client.containers.create(origin.image, ["true"], name=name, labels=dict(origin.labels))
        folder = tarfile.TarInfo("etc")
        folder.type, folder.mode = tarfile.DIRTYPE, 0o755
        archive.addfile(folder)
        for path in (PASSWD, GROUP):
            content = files.read(api, name, path) or b""
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(content), 0o644
            archive.addfile(member, io.BytesIO(content))
    api.put_archive(container, "/", buffer.getvalue())
