"""The bound on what a container writes to the disk of its Docker host.

Where the storage driver has quotas (overlay2 on XFS mounted with `pquota`, Btrfs, ZFS), the kernel keeps the bound, and
a program that reaches it sees a full disk. Elsewhere no file grows beyond it (`RLIMIT_FSIZE`), and a watch asks Docker
for the size of what the containers of a sandbox wrote, a last time when the trial is done with them: one that is beyond
the bound is removed, which ends the trial.

Memory file systems such as `/dev/shm` count as memory. Not covered: the number of files, and an image's own `VOLUME`,
whose files are bounded one by one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from threading import Event, Thread
from typing import Any, cast

import docker
import docker.errors
from docker.models.containers import Container

from capvec.errors import CapvecError, SandboxUnavailable, StorageExceeded
from capvec.sandbox.docker_host import FAULTS
from capvec.sandbox.reaper import remove

EVERY_S = 0.5
"""Seconds between two looks; more where a look takes long, so that Docker looks at most a fifth of the time."""
LOG_MB = 16
"""Bound on what Docker keeps of what a container's own processes print."""


def create_container(client: docker.DockerClient, image: str, bound_mb: int, **settings: Any) -> Container:
    """Create a container, with a quota where the storage driver has quotas.

    Raises:
        docker.errors.APIError: it cannot be created without one either.
    """
    settings |= {
        "ulimits": [docker.types.Ulimit(name="fsize", soft=bound_mb << 20, hard=bound_mb << 20)],
        "log_config": docker.types.LogConfig(type="json-file", config={"max-size": f"{LOG_MB}m"}),
    }
    try:
        return client.containers.create(image, storage_opt={"size": f"{bound_mb}m"}, **settings)
    except docker.errors.APIError as error:
        if "storage" not in str(error.explanation):
            raise
        error.response.close()
    return client.containers.create(image, **settings)


def of_service(bound_mb: int) -> dict[str, Any]:
    """The same limits in a compose file, without a quota, which no driver could refuse softly there."""
    return {
        "ulimits": {"fsize": bound_mb << 20},
        "logging": {"driver": "json-file", "options": {"max-size": f"{LOG_MB}m"}},
    }


@contextmanager
def watched(client: docker.DockerClient, sandbox: str, bound_mb: int) -> Iterator[Watch]:
    """Watch what the containers of a sandbox write, and remove one that goes beyond the bound.

    Args:
        client: connected to the containers' Docker.
        sandbox: the name of its container, with which those of its services begin.
        bound_mb: in MiB.

    Raises:
        StorageExceeded: one went beyond it, whatever else came of that.
    """
    watch = Watch(client, sandbox, bound_mb)
    watch.start()
    fault: CapvecError | None = None
    try:
        yield watch
    except CapvecError as error:
        fault = error
        raise
    finally:
        watch.ended.set()
        watch.join()
        watch.check(fault, once_more=fault is None)


class Watch(Thread):
    """Looks from time to time until it has found too much or is told to end."""

    def __init__(self, client: docker.DockerClient, sandbox: str, bound_mb: int) -> None:
        super().__init__(name=f"watch-{sandbox}", daemon=True)
        self.ended = Event()
        self.found_mb: int | None = None
        """What a container had written that went beyond the bound."""
        self._client, self._sandbox, self._bound_mb = client, sandbox, bound_mb

    def run(self) -> None:
        # A look that fails is repeated: the trial itself meets what is wrong with Docker, and says so.
        took = 0.0
        while self.found_mb is None and not self.ended.wait(max(EVERY_S, 4 * took)):
            began = time.monotonic()
            self._look()
            took = time.monotonic() - began

    def check(self, fault: CapvecError | None = None, *, once_more: bool = True) -> None:
        """Make sure that nothing went beyond the bound.

        Args:
            fault: what else came of it.
            once_more: whether to look now, since something may have been written after the last look.

        Raises:
            StorageExceeded: something did.
        """
        if once_more and self.found_mb is None:
            self._look()
        if self.found_mb is not None:
            raise StorageExceeded(
                f"more than storage_mb = {self._bound_mb} was written to the container's disk ({self.found_mb} MB), "
                "which ended it"
            ) from fault

    def _look(self) -> None:
        api = cast("Any", self._client.api)
        with suppress(*FAULTS, SandboxUnavailable):
            for container in api.containers(all=True, size=True, filters={"name": self._sandbox}):
                written_mb = (container.get("SizeRw") or 0) >> 20
                if written_mb > self._bound_mb:
                    self.found_mb = written_mb
                    remove(self._client, container["Id"])
