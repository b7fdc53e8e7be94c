"""Images of tasks, built from `environment/` once for each content."""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import docker
import docker.errors

from capvec.errors import UsageError
from capvec.records import Task

_LOG_LINES = 15


def prepare_image(client: docker.DockerClient, task: Task) -> str:
    """Build or pull the task's image unless Docker has it. Returns its id.

    Raises:
        UsageError: the Dockerfile does not build, or no registry has the image; the message carries the end of the log.
    """
    if image := find_image(client, task):
        return image
    return _pull(client, task) if task.environment.image is not None else _build(client, task)


def find_image(client: docker.DockerClient, task: Task) -> str | None:
    """The id of the task's image; None if Docker does not have it.

    Raises:
        UsageError: the task's `docker_image` cannot be the name of an image.
    """
    try:
        return str(client.images.get(image_tag(task)).id)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        if error.status_code != 400:
            raise
        raise UsageError(
            f"task {task.name}: docker_image = {task.environment.image!r} cannot be the name of an image "
            f"({error.explanation}); expected one such as debian:bookworm-slim"
        ) from error


def image_tag(task: Task) -> str:
    """The image's name: the task's `docker_image`, or one that changes with every byte of `environment/`."""
    # Unlike a repository's, a task's name may have two separators in a row, or one at an end.
    repository = re.sub(r"[._-]{2,}", "-", task.name.lower()).strip("._-") or "task"
    return task.environment.image or f"capvec/{repository}:{_digest(task.path / 'environment')}"


def _build(client: docker.DockerClient, task: Task) -> str:
    try:
        image, _ = client.images.build(
            path=str(task.path / "environment"),
            tag=image_tag(task),
            rm=True,
            forcerm=True,
            timeout=int(task.environment.build_timeout_s),
        )
    except docker.errors.BuildError as error:
        raise UsageError(
            f"task {task.name}: {task.path / 'environment' / 'Dockerfile'} does not build: {error.msg}\n"
            f"{_tail(error.build_log)}{_hint(str(error.msg))}"
        ) from error
    except docker.errors.APIError as error:
        if (
            (error.status_code is not None and error.status_code < 500)
            or "pull" in str(error)
            or "lookup" in str(error)
        ):
            raise UsageError(
                f"task {task.name}: {task.path / 'environment' / 'Dockerfile'} does not build: {error.explanation}"
                f"{_hint(str(error.explanation))}"
            ) from error
        raise
    return str(image.id)


def _pull(client: docker.DockerClient, task: Task) -> str:
    try:
        return str(client.images.pull(task.environment.image).id)
    except docker.errors.APIError as error:
        raise UsageError(
            f"task {task.name}: docker_image = {task.environment.image!r} cannot be pulled ({error.explanation}); "
            "expected an image that Docker has or that a registry offers"
        ) from error


def _digest(folder: Path) -> str:
    """12 hex digits of a SHA-256 over the folder's names, modes and contents."""
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        relative = path.relative_to(folder).as_posix()
        if path.is_symlink():
            digest.update(f"link {relative} {os.readlink(path)}\0".encode())
        elif path.is_file():
            data = path.read_bytes()
            digest.update(f"file {relative} {path.stat().st_mode & 0o111} {len(data)}\0".encode() + data)
        else:
            digest.update(f"folder {relative}\0".encode())
    return digest.hexdigest()[:12]


def _tail(log: Iterable[Any]) -> str:
    lines = "".join(str(entry.get("stream") or entry.get("error") or "") for entry in log).splitlines()
    return "\n".join(f"  {line}" for line in lines[-_LOG_LINES:])


def _hint(message: str) -> str:
    """The remedy, if the message tells of a missing base image."""
    words = ("pull", "lookup", "manifest", "not found", "registry")
    if any(word in message.lower() for word in words):
        return "\nIf its base image is missing, run `make setup`, which pulls or builds debian:bookworm-slim."
    return ""
