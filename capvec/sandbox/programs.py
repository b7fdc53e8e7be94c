"""One program in a container: started with `docker exec`, and followed to its end."""

from __future__ import annotations

import time
from typing import Any

import docker.errors

from capvec.sandbox.docker_api import OWN_FAULT
from capvec.sandbox.streams import ExecStream, Output

QUIET_S, DRAIN_S = 0.1, 1.0
"""How long to wait for more output of a program that has ended, at once and in all."""


def start_program(api: Any, container: str, argv: list[str], **settings: Any) -> tuple[str, ExecStream]:
    """Start a program in a container; once more if Docker fails by itself. Returns the id of its `docker exec`.

    Args:
        api: of the container's Docker.
        container: its name.
        argv: the program and its arguments.
        settings: further ones of the SDK's `exec_create`.

    Raises:
        docker.errors.APIError: Docker refuses.
    """

    def start() -> tuple[str, ExecStream]:
        created = api.exec_create(container, argv, **settings)["Id"]
        return created, ExecStream(api.exec_start(created, socket=True))

    try:
        return start()
    except docker.errors.APIError as error:
        if error.status_code < OWN_FAULT:
            raise
        error.response.close()
    return start()


def follow(api: Any, exec_id: str, stream: ExecStream, output: Output, deadline: float) -> int | None:
    """Read what a program prints until it ends. Returns its exit code; None if the deadline passed first."""
    while True:
        now = time.monotonic()
        if piece := stream.receive(min(deadline, now + 1.0)):
            output.add(piece)
            continue
        # The end of the program counts, not the end of its output: a process that it left behind may hold the output
        # open for ever.
        code = api.exec_inspect(exec_id)["ExitCode"]
        if code is not None:
            _drain(stream, output)
            return int(code)
        if now >= deadline:
            return None
        if stream.ended:
            time.sleep(0.02)


def cannot_execute(said: str) -> bool:
    """Whether Docker says that a program of a container is missing or cannot run."""
    return any(sign in said for sign in ("OCI runtime", "executable file not found", "unable to find user"))


def _drain(stream: ExecStream, output: Output) -> None:
    """Read what arrived after the last read and before the end: on busy cores that may be all that was printed."""
    deadline = time.monotonic() + DRAIN_S
    while piece := stream.receive(min(deadline, time.monotonic() + QUIET_S)):
        output.add(piece)
        if time.monotonic() > deadline:
            return
