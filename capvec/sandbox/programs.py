"""One program in a container: started with `docker exec`, and followed to its end."""

from __future__ import annotations

import time
from typing import Any

import docker.errors

from capvec.sandbox.docker_api import OWN_FAULT
from capvec.sandbox.docker_forms import NoDocker
from capvec.sandbox.streams import ExecStream, Output

QUIET_S, DRAIN_S = 0.1, 1.0
"""How long to wait for more output of a program that has ended, at once and in all."""
_NOTICED_S = 1.0
"""In which Docker notices that a program has ended."""
_LOOK_S = 0.02


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
    """Read what a program prints until it ends. Returns its exit code; None if the deadline passed first.

    Raises:
        NoDocker: Docker took the program, and neither runs it nor knows how it ended.
    """
    while True:
        now = time.monotonic()
        if piece := stream.receive(min(deadline, now + 1.0)):
            output.add(piece)
            continue
        # The end of the program counts, not the end of its output: a process that it left behind may hold the output
        # open for ever.
        code = end_of(api, exec_id) if stream.ended else _state(api, exec_id)[1]
        if code is not None:
            _drain(stream, output)
            return code
        if now >= deadline:
            return None


def end_of(api: Any, exec_id: str) -> int | None:
    """The exit code of a program whose output has ended; None if it still runs a second later.

    Raises:
        NoDocker: Docker took the program, and neither runs it nor knows how it ended.
    """
    deadline = time.monotonic() + _NOTICED_S
    while True:
        runs, code = _state(api, exec_id)
        if code is not None:
            return code
        if time.monotonic() > deadline:
            break
        time.sleep(_LOOK_S)
    if not runs:
        raise NoDocker("it took a program, and neither runs it nor says how it ended")
    return None


def _state(api: Any, exec_id: str) -> tuple[bool, int | None]:
    """Whether a program runs, and its exit code if it has ended."""
    program = api.exec_inspect(exec_id)
    return program["Running"], None if program["Running"] else program["ExitCode"]


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
