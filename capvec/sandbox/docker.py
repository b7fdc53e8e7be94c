"""Sandboxes as Docker containers: one for each trial, hardened, and removed however the trial ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Protocol, Self

import docker
import docker.errors

from capvec.errors import UsageError
from capvec.sandbox import files
from capvec.sandbox.base import MAIN, Sandbox
from capvec.sandbox.building import Say
from capvec.sandbox.compose import Project
from capvec.sandbox.compose_images import prepare_images
from capvec.sandbox.containers import ImageConfig, check_workdir, labels_of, new_name
from capvec.sandbox.docker_host import PROBE_S, Lifeline, connect, faults
from capvec.sandbox.docker_sandbox import Launch
from capvec.sandbox.health import wait_until_healthy
from capvec.sandbox.network import wanted_by_agent
from capvec.sandbox.reaper import reap_trial, remove
from capvec.sandbox.users import ROOT, Users
from capvec.task_records import Capabilities, Environment, Task


class Allowed(Protocol):
    """What tasks are allowed: the options of a command, or the settings of a run."""

    @property
    def capabilities(self) -> Capabilities: ...

    @property
    def keep_processes(self) -> bool: ...


@dataclass(frozen=True)
class DockerProvider:
    """Makes sandboxes on the Docker of the environment: `DOCKER_HOST`, or else the local socket."""

    capabilities: Capabilities = "none"
    """`none` leaves a container those that its task adds; `default` gives it also those of a plain container, and lets
    its programs gain privileges (`sudo`)."""
    keep_processes: bool = False
    """Whether processes that an agent left running live on while a verifier runs beside them, as in Harbor."""
    say: Say = lambda _line: None
    """Takes lines about images: a build that takes long, a pull that fails."""

    @classmethod
    def of(cls, allowed: Allowed, say: Say = lambda _line: None) -> Self:
        """That of a run, whose tasks are allowed this."""
        return cls(allowed.capabilities, allowed.keep_processes, say)

    def prepare(self, task: Task) -> str:
        """Build, pull or find the task's images, and check that they have its users. See `SandboxProvider.prepare`."""
        with faults(), connect() as client:
            images = [str(image) for one in task.environments for image in prepare_images(client, task, one, self.say)]
            for step in task.steps:
                own = step.verifier.environment
                self._check_image(client, task, task.environment, {"agent": step.agent.user})
                self._check_image(client, task, own or task.environment, {"verifier": step.verifier.user})
                for hook in step.verifier.collect:
                    self._check_image(client, task, task.environment, {"verifier.collect": hook.user}, hook.service)
        return ", ".join(images)

    @contextmanager
    def open(self, task: Task, *, run: str, trial: str) -> Iterator[Sandbox]:
        """A running container for one trial, removed when the context ends. See `SandboxProvider.open`."""
        with connect() as client, ExitStack() as cleanup:
            with faults():
                lifeline = Lifeline(client)
                cleanup.callback(lifeline.close)
                labels = labels_of(run, trial)
                launch = Launch(client, task, self.capabilities, self.keep_processes, labels, cleanup, self.say)
                sandbox = launch.start(task.environment, wanted=wanted_by_agent(task), users=_users(task))
            if task.environment.healthcheck is not None:
                wait_until_healthy(sandbox, task.environment.healthcheck)
            first = task.steps[0].agent
            sandbox.enter(user=first.user, network=first.network)
            yield sandbox
            lifeline.check()

    def check(self) -> None:
        """Ask whether Docker answers. See `SandboxProvider.check`."""
        with connect(PROBE_S):
            pass

    def clear(self, *, run: str, trial: str) -> None:
        """Remove the containers of a trial. See `SandboxProvider.clear`."""
        reap_trial(run, trial)

    def _check_image(
        self,
        client: docker.DockerClient,
        task: Task,
        environment: Environment,
        users: Mapping[str, str | None],
        service: str = MAIN,
    ) -> None:
        """Check that the image of a service has users of a task, and that of the agent its working directory.

        Raises:
            UsageError: it has not.
        """
        named = {phase: user for phase, user in users.items() if user not in (None, "root", ROOT)}
        if not named and (environment.workdir is None or service != MAIN):
            return
        image, name = _image_of(client, task, environment, service, self.say), new_name()
        with ExitStack() as cleanup:
            cleanup.callback(remove, client, name)
            client.containers.create(image.id, ["true"], name=name)
            if service == MAIN:
                check_workdir(client, name, task, environment)
            found = Users(lambda path: files.read(client.api, name, path), image.user)
            for phase, user in named.items():
                try:
                    found.number(user)
                except UsageError as error:
                    raise UsageError(f"task {task.name}: {phase}.user: {error}") from error


def _image_of(client: docker.DockerClient, task: Task, environment: Environment, service: str, say: Say) -> ImageConfig:
    """The image of a service, that of `main` with the user and the working directory that the file gives it."""
    if environment.compose:
        project = Project.of(client, task, environment, say)
        return project.main if service == MAIN else ImageConfig.inspect(client, project.images[service])
    return ImageConfig.of(client, task, environment, say)


def _users(task: Task) -> Iterator[str | None]:
    """The users of all phases in the agent's container."""
    for step in task.steps:
        yield step.agent.user
        yield from (collect.user for collect in step.verifier.collect if collect.service == MAIN)
        yield step.verifier.user if step.verifier.environment is None else None
