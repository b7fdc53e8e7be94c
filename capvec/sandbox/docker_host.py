"""The connection to Docker, and the message when there is none."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import docker
import docker.credentials.errors
import docker.errors
import requests.exceptions
import urllib3.exceptions

from capvec.errors import SandboxBroken, SandboxUnavailable
from capvec.sandbox import docker_cli

FAULTS = (
    docker.errors.DockerException,
    docker.credentials.errors.StoreError,  # these two are no DockerException
    docker.errors.StreamParseError,
    requests.exceptions.RequestException,
    urllib3.exceptions.HTTPError,
    json.JSONDecodeError,
    OSError,
)
"""Everything that a call of the Docker SDK raises where Docker, the way there or the user's Docker settings fail."""


def check_docker() -> dict[str, Any]:
    """Check that Docker answers. Returns its version record.

    Raises:
        SandboxUnavailable: it does not; the message says what was tried and what to do.
    """
    with connect() as client, faults():
        version: dict[str, Any] = client.version()
        return version


@contextmanager
def connect() -> Iterator[docker.DockerClient]:
    """A client of the Docker at `DOCKER_HOST`, or else at the local socket, closed when the context ends.

    Raises:
        SandboxUnavailable: Docker does not answer there.
    """
    context = docker_cli.context_name()
    where = os.environ.get("DOCKER_HOST") or (
        "the local socket" if context == "default" else f"the address of the context {context}"
    )
    try:
        if docker.ContextAPI.get_context(context) is None:  # the SDK would take the local socket, without a word
            raise docker.errors.ContextNotFound(context)
        client = docker.from_env(timeout=120)
    # The SDK parses settings and addresses without a check, so that any error can come of a wrong one.
    except Exception as error:
        raise SandboxUnavailable(
            f"Docker does not answer at {where} ({_why(error)}). Start `dockerd`, or run `make setup`, which installs "
            "and starts it where it can; `capvec doctor` lists what is missing"
        ) from error
    try:
        yield client
    finally:
        client.close()


@contextmanager
def faults() -> Iterator[None]:
    """Turn what the Docker SDK raises into `SandboxUnavailable`, and a refusal of Docker's into `SandboxBroken`."""
    try:
        yield
    except FAULTS as error:
        refused = isinstance(error, docker.errors.APIError) and "no such container" not in str(error).lower()
        if (response := getattr(error, "response", None)) is not None:
            response.close()  # the SDK leaves the connection of a failed streaming call open
        raise (SandboxBroken if refused else SandboxUnavailable)(f"Docker failed: {reason(error)}") from error


def _why(error: BaseException) -> str:
    """The system's reason for a failed connection, without the exceptions that the SDK and requests wrap it in."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return reason(error)


def reason(error: BaseException) -> str:
    """What Docker or the SDK said, on one line."""
    text = str(getattr(error, "explanation", None) or error)
    return " ".join(text.split())[:300] or type(error).__name__
