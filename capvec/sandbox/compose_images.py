"""Images of the services of a `docker-compose.yaml`: built once for each content of its folder, or pulled."""

from __future__ import annotations

import hashlib
from dataclasses import replace

import docker.errors

from capvec.sandbox.base import MAIN
from capvec.sandbox.building import Say, build_image
from capvec.sandbox.compose_file import FILE, Build, Services, read_services
from capvec.sandbox.docker_host import HostClient
from capvec.sandbox.images import Image, image_tag, prepare_image, pull, refuse_if_changed
from capvec.task_records import Environment, Task


def prepare_images(client: HostClient, task: Task, environment: Environment, say: Say) -> tuple[Image, ...]:
    """Find the images of an environment, pull or build them; first that of the agent's or the verifier's container.

    Raises:
        UsageError: an image cannot be built or pulled, or the task's services cannot run in a sandbox.
        SandboxUnavailable: Docker does not answer.
    """
    if not environment.compose:
        return (prepare_image(client, task, environment, say),)
    images = images_of(client, task, environment, read_services(task, environment), say)
    return (images.pop(MAIN), *images.values())


def images_of(
    client: HostClient, task: Task, environment: Environment, services: Services, say: Say
) -> dict[str, Image]:
    """Service → its image, which is built or pulled where Docker does not have it. Raises as `prepare_images`."""
    images = {}
    for service in services.services:
        if service in services.builds:
            images[service] = _build(client, task, environment, service, services.builds[service], say)
        elif service in services.images:
            images[service] = _ready(client, task, environment, service, services.images[service], say)
        else:
            images[service] = prepare_image(client, task, replace(environment, compose=False), say)
    return images


def _build(client: HostClient, task: Task, environment: Environment, service: str, build: Build, say: Say) -> Image:
    digest = hashlib.sha256(repr((str(build.context), str(build.dockerfile), build.options)).encode()).hexdigest()[:8]
    files = image_tag(task, environment)
    tag = f"{files}-{service.lower()}-{digest}"
    source = f"{environment.folder}/{FILE} ({service})"
    try:
        return Image(str(client.images.get(tag).id), source, tag)
    except docker.errors.ImageNotFound:
        pass
    built = build_image(
        client,
        build.context,
        tag,
        name=task.name,
        timeout_s=environment.build_timeout_s,
        say=say,
        dockerfile=build.dockerfile,
        options=build.options,
    )
    refuse_if_changed(client, task, environment, files, tag)
    return Image(built, source, tag)


def _ready(client: HostClient, task: Task, environment: Environment, service: str, name: str, say: Say) -> Image:
    what = f"task {task.name}: {environment.folder}/{FILE}: services.{service}.image = {name!r}"
    try:
        return Image(str(client.images.get(name).id), name)
    except docker.errors.ImageNotFound:
        return Image(pull(client, name, what, say), name)
