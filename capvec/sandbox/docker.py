"""Sandboxes as Docker containers: one for each trial, hardened, and removed however the trial ends."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, Self

from capvec.errors import UsageError
from capvec.sandbox import files
from capvec.sandbox.base import MAIN, Sandbox
from capvec.sandbox.building import Say
from capvec.sandbox.compose import Project
from capvec.sandbox.compose_images import prepare_images
from capvec.sandbox.containers import ImageConfig, check_workdir, labels_of, new_name
from capvec.sandbox.copying import COPY_S, check_alike, copy_image
from capvec.sandbox.docker_host import DockerHost, HostClient, Lifeline, connect, faults
from capvec.sandbox.hosts import ALONE, DockerHosts
from capvec.sandbox.images import Image
from capvec.sandbox.launch import Launch, idles
from capvec.sandbox.reaper import reap, reap_trial, remove
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
    """Makes sandboxes on one Docker or several."""

    capabilities: Capabilities = "none"
    """`none` leaves a container those that its task adds; `default` gives it also those of a plain container, and lets
    its programs gain privileges (`sudo`)."""
    keep_processes: bool = False
    """Whether processes that an agent left running live on while a verifier runs beside them, as in Harbor."""
    say: Say = lambda _line: None
    """Takes lines about images: a build that takes long, a pull that fails."""
    hosts: DockerHosts = ALONE

    @classmethod
    def of(cls, allowed: Allowed, say: Say = lambda _line: None, hosts: DockerHosts = ALONE) -> Self:
        """That of a run, whose tasks are allowed this."""
        return cls(allowed.capabilities, allowed.keep_processes, say, hosts)

    @property
    def host(self) -> str:
        """The name of its host, where it has one alone. See `SandboxProvider.host`."""
        return self.hosts.hosts[0].name if len(self.hosts.hosts) == 1 else ""

    @contextmanager
    def place(self) -> Iterator[Self]:
        """A place for one trial. See `SandboxProvider.place`."""
        with self.hosts.place() as host:
            yield replace(self, hosts=DockerHosts((host,)))

    def prepare(self, task: Task) -> str:
        """Build, pull or find the task's images, and check that they have its users. See `SandboxProvider.prepare`.

        What the first host has is copied to the others, so that the images of all have one content.
        """
        first, *others = self.hosts
        images = self._prepare_on(first, task)
        with ThreadPoolExecutor(len(others) or 1) as pool:
            for copied in [pool.submit(self._copy, task, images, first, other) for other in others]:
                copied.result()
        return ", ".join(map(str, images))

    def _copy(self, task: Task, images: Sequence[Image], first: DockerHost, other: DockerHost) -> None:
        """Give another host what the first one has, and check that it has nothing else."""
        with faults(), connect(first, timeout_s=COPY_S) as source, connect(other, timeout_s=COPY_S) as target:
            for image in images:
                copy_image(source, target, image, lambda line: self.say(f"task {task.name}: {line}"))
        for one, copied in zip(images, self._prepare_on(other, task), strict=True):
            with faults(), connect(first) as source, connect(other) as target:
                check_alike(task.name, one, source, copied, target)

    def _prepare_on(self, host: DockerHost, task: Task) -> list[Image]:
        with faults(), connect(host) as client:
            images = [image for one in task.environments for image in prepare_images(client, task, one, self.say)]
            for step in task.steps:
                own = step.verifier.environment
                self._check_image(client, task, task.environment, {"agent": step.agent.user})
                self._check_image(client, task, own or task.environment, {"verifier": step.verifier.user})
                for hook in step.verifier.collect:
                    self._check_image(client, task, task.environment, {"verifier.collect": hook.user}, hook.service)
        return images

    @contextmanager
    def open(self, task: Task, *, run: str, trial: str) -> Iterator[Sandbox]:
        """A running container for one trial, removed when the context ends. See `SandboxProvider.open`."""
        with self.hosts.place() as host, connect(host) as client, ExitStack() as cleanup:
            with faults():
                lifeline = Lifeline(client)
                cleanup.callback(lifeline.close)
                labels, allowed = labels_of(run, trial), (self.capabilities, self.keep_processes)
                sandbox = Launch(client, task, *allowed, labels, lifeline, cleanup, self.say).agent()
            yield sandbox
            lifeline.check()

    def idles(self, task: Task) -> bool:
        """Whether its container has no services and no programs of its own. See `SandboxProvider.idles`."""
        with connect(self.hosts.hosts[0]) as client, faults():
            return idles(client, task, task.environment, self.say)

    def check(self) -> None:
        """Ask whether Docker answers. See `SandboxProvider.check`."""
        self.hosts.check()

    def silent(self) -> tuple[str, ...]:
        """Which of several hosts do not answer. See `SandboxProvider.silent`."""
        return self.hosts.silent()

    def is_lost(self, host: str) -> bool:
        """Whether one of several hosts does not answer. See `SandboxProvider.is_lost`."""
        return self.hosts.is_lost(host)

    def clear(self, *, run: str, trial: str | None = None) -> None:
        """Remove the containers of a trial, or of all. See `SandboxProvider.clear`."""
        if trial is None:
            reap(run, self.hosts)
        else:
            reap_trial(run, trial, self.hosts)

    def _check_image(
        self,
        client: HostClient,
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


def _image_of(client: HostClient, task: Task, environment: Environment, service: str, say: Say) -> ImageConfig:
    """The image of a service, that of `main` with the user and the working directory that the file gives it."""
    if environment.compose:
        project = Project.of(client, task, environment, say)
        return project.main if service == MAIN else ImageConfig.inspect(client, project.images[service])
    return ImageConfig.of(client, task, environment, say)
