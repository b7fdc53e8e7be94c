"""Freezing or ending the processes of containers, so that what is read of their files is of one moment."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import docker.errors

from capvec.errors import SandboxUnavailable

FREEZE_S = 15.0
"""How long to retry freezing a container."""


@contextmanager
def frozen(api: Any, *containers: str) -> Iterator[None]:
    """Freeze all processes of containers until the context ends. A container that has ended has none.

    Raises:
        docker.errors.APIError: Docker cannot.
    """
    with ExitStack() as thaw:
        for container in containers:
            if _freeze(api, container):
                thaw.callback(api.unpause, container)
        yield


def kill(api: Any, container: str) -> None:
    """End all processes of a container, of which the files stay.

    Raises:
        SandboxUnavailable: somebody has paused it, so that the agent could not do what it would have done.
        docker.errors.APIError: Docker cannot.
    """
    if api.inspect_container(container)["State"]["Paused"]:
        raise SandboxUnavailable("the container of the trial was paused from outside")
    try:
        api.kill(container)
    except docker.errors.APIError as error:
        if "is not running" not in str(error.explanation):
            raise
        error.response.close()


def _freeze(api: Any, container: str) -> bool:
    """Freeze one; False if it has ended. On busy cores runc may find no moment for it, and leaves the retry to us."""
    deadline = time.monotonic() + FREEZE_S
    while True:
        try:
            api.pause(container)
        except docker.errors.APIError as error:
            said = str(error.explanation)
            ended = "is not running" in said
            if not ended and ("unable to freeze" not in said or time.monotonic() > deadline):
                raise
            error.response.close()
            if ended:
                return False
            time.sleep(0.1)
        else:
            return True
