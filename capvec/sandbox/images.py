"""Images of tasks: pulled, or built once for each content of their folder."""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path

import docker
import docker.errors

from capvec.errors import UsageError
from capvec.sandbox.building import Say, build_image
from capvec.sandbox.docker_host import FAULTS, HostClient, faults, reason
from capvec.sandbox.pulling import pull_image
from capvec.task_records import Environment, Task


@dataclass(frozen=True)
class Image:
    """The image of one container of a task."""

    id: str
    """A digest."""
    source: str
    """The `docker_image` that it is, or the Dockerfile that it was built from, as a path in the task's folder."""
    tag: str = ""
    """The name that it was built under; empty for a `docker_image`."""

    def __str__(self) -> str:
        """As in `provenance.json`: `sha256:… from environment/Dockerfile`."""
        return f"{self.id} from {self.source}"


def prepare_image(client: HostClient, task: Task, environment: Environment, say: Say) -> Image:
    """Find the image of a container, pull it, or build it.

    A `docker_image` that cannot be had is built from the Dockerfile beside it, if there is one.

    Args:
        client: connected to the Docker that will have the image.
        task: whose container it is.
        environment: one of `task.environments`.
        say: takes a line about a build that takes long, and about what was done instead of what was asked.

    Raises:
        UsageError: the Dockerfile does not build, or no registry has the image; the message carries the end of the log.
        SandboxUnavailable: Docker does not answer.
    """
    folder = task.path / environment.folder
    if environment.image is not None:
        if image := _ready(client, task, environment.image):
            return image
        try:
            what = f"task {task.name}: docker_image = {environment.image!r}"
            return Image(pull(client, environment.image, what, say), environment.image)
        except UsageError as error:
            if not (folder / "Dockerfile").is_file():
                wanted = "expected an image that Docker has or that a registry offers, or a Dockerfile beside it"
                raise UsageError(f"{error}; {wanted}") from error
            say(f"{error}; built from {environment.folder}/Dockerfile instead")
    if image := _built(client, task, environment):
        return image
    tag = image_tag(task, environment)
    image_id = build_image(client, folder, tag, name=task.name, timeout_s=environment.build_timeout_s, say=say)
    refuse_if_changed(client, task, environment, tag, tag)
    return Image(image_id, _dockerfile(environment), tag)


def refuse_if_changed(client: HostClient, task: Task, environment: Environment, before: str, built: str) -> None:
    """Refuse an image whose folder changed while it was built, and take its name away, which stands for the old files.

    Args:
        client: connected to the Docker that built it.
        task: whose image it is.
        environment: whose folder it was built from.
        before: the `image_tag` at the beginning of the build.
        built: the name of the image.

    Raises:
        UsageError: the folder changed.
    """
    if image_tag(task, environment) != before:
        client.images.remove(built)
        raise UsageError(
            f"task {task.name}: {task.path / environment.folder} changed while its image was built; leave it as it is "
            "meanwhile, and try again"
        )


def find_image(client: docker.DockerClient, task: Task, environment: Environment) -> Image | None:
    """The image of a container that `prepare_image` left, without a pull or a build; None if Docker has none.

    Raises:
        UsageError: the task's `docker_image` cannot be the name of an image.
    """
    ready = _ready(client, task, environment.image) if environment.image is not None else None
    return ready or _built(client, task, environment)


def image_tag(task: Task, environment: Environment) -> str:
    """The name of an image that is built: it changes with every byte and mode of the environment's folder."""
    # Unlike a repository's, a task's name may have two separators in a row, or one at an end.
    repository = re.sub(r"[._-]{2,}", "-", task.name.lower()).strip("._-") or "task"
    return f"capvec/{repository}:{_digest(task.path / environment.folder)}"


def _ready(client: docker.DockerClient, task: Task, name: str) -> Image | None:
    try:
        return Image(str(client.images.get(name).id), name)
    except docker.errors.ImageNotFound:
        return None
    except docker.errors.APIError as error:
        if error.status_code != 400:
            raise
        raise UsageError(
            f"task {task.name}: docker_image = {name!r} cannot be the name of an image "
            f"({error.explanation}); expected one such as debian:bookworm-slim"
        ) from error


def _built(client: docker.DockerClient, task: Task, environment: Environment) -> Image | None:
    tag = image_tag(task, environment)
    try:
        return Image(str(client.images.get(tag).id), _dockerfile(environment), tag)
    except docker.errors.ImageNotFound:
        return None


def _dockerfile(environment: Environment) -> str:
    return f"{environment.folder}/Dockerfile"


def pull(client: docker.DockerClient, name: str, what: str, say: Say) -> str:
    """Pull an image. Returns its id; `what` names it for messages.

    Raises:
        UsageError: no registry has it, or none answers.
        SandboxUnavailable: Docker does not answer.
    """
    try:
        return pull_image(client, name, say=lambda line: say(f"{what}: {line}"))
    except FAULTS as error:
        with faults():
            client.ping()  # where Docker itself is gone, it is not about the image
        raise UsageError(f"{what} cannot be pulled ({reason(error)})") from error


def _digest(folder: Path) -> str:
    """12 hex digits of a SHA-256 over the folder's names, modes and contents.

    No name and no target of a link holds a zero byte, which ends each, so that no two folders give the same bytes.
    """
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        name = os.fsencode(path.relative_to(folder).as_posix()) + b"\0"
        if path.is_symlink():
            digest.update(b"link " + name + os.fsencode(os.readlink(path)) + b"\0")
            continue
        mode = path.stat().st_mode & 0o7777  # COPY keeps all of it
        if path.is_file():
            data = path.read_bytes()
            digest.update(b"file " + name + f"{mode:o} {len(data)}\0".encode() + data)
        else:
            digest.update(b"folder " + name + f"{mode:o}\0".encode())
    return digest.hexdigest()[:12]
