"""Starts the containers of a trial: the agent's, and those of verifiers that have one of their own."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

import docker.errors

from capvec.errors import SandboxUnavailable
from capvec.sandbox.base import MAIN, Ready
from capvec.sandbox.building import Say
from capvec.sandbox.compose import Project
from capvec.sandbox.containers import (
    ImageConfig,
    Started,
    StartSettings,
    check_runs,
    new_name,
    root_reads_all,
    start_container,
)
from capvec.sandbox.docker_host import HostClient, Lifeline, faults
from capvec.sandbox.docker_sandbox import DockerSandbox
from capvec.sandbox.health import wait_until_healthy
from capvec.sandbox.network import wanted_by_agent, wanted_by_verifier
from capvec.sandbox.storage import watched
from capvec.task_records import Capabilities, Environment, Task, TaskStep


@dataclass(frozen=True)
class Launch:
    """Starts the containers of one trial, which are removed together."""

    client: HostClient
    task: Task
    capabilities: Capabilities
    keep_processes: bool
    labels: Mapping[str, str]
    lifeline: Lifeline
    cleanup: ExitStack
    say: Say

    def agent(self) -> DockerSandbox:
        """The agent's sandbox, with a shell for the agent of the first step."""
        sandbox, started = self._start(self.task.environment, wanted_by_agent(self.task), _users(self.task))
        first, check = self.task.steps[0].agent, self.task.environment.healthcheck
        with self._running(started):
            sandbox.begin(first.user if check is None else None)
        if check is not None:
            wait_until_healthy(sandbox, check)
        sandbox.enter(user=first.user, network=first.network)
        return sandbox

    @contextmanager
    def verifier(self, step: TaskStep, ready: Ready) -> Iterator[DockerSandbox]:
        """The sandbox of a verifier's own environment. See `Sandbox.open_verifier`."""
        environment = step.verifier.environment
        assert environment is not None, "the verifier has no environment of its own"
        with ExitStack() as cleanup:
            with faults():
                launch = replace(self, cleanup=cleanup)
                wanted = wanted_by_verifier(environment, step)
                sandbox, started = launch._start(environment, wanted, (step.verifier.user,))
                with launch._running(started):
                    sandbox.processes.know()
            sandbox.enter(user=step.verifier.user, network=None)
            if environment.healthcheck is not None:
                wait_until_healthy(sandbox, environment.healthcheck)
            ready(sandbox)
            yield sandbox

    def may_wait(self, step: TaskStep) -> bool:
        """Whether the sandbox of a verifier may be started while the agent works: no network is a way to it.

        Raises:
            UsageError: its image cannot be had.
            SandboxUnavailable: Docker does not answer.
        """
        environment = step.verifier.environment
        if environment is None or any(wanted_by_verifier(environment, step)):
            return False
        with faults():
            return idles(self.client, self.task, environment, self.say)

    def _start(
        self, environment: Environment, wanted: tuple[bool, ...], users: Iterable[str | None]
    ) -> tuple[DockerSandbox, Started]:
        """A sandbox in a new container of an environment, with its services beside it."""
        settings = StartSettings(new_name(), wanted, self.capabilities, self.labels, self.cleanup)
        if environment.compose:
            started = Project.of(self.client, self.task, environment, self.say).start(settings)
        else:
            image = ImageConfig.of(self.client, self.task, environment, self.say)
            if environment is self.task.environment and not image.entrypoint:
                environment = root_reads_all(environment, (step.agent.user or image.user for step in self.task.steps))
            started = start_container(self.client, image, environment, settings)
        watch = self.cleanup.enter_context(watched(self.client, started.name, environment.limits.storage_mb))
        with self._running(started):
            sandbox = DockerSandbox(self, started, users, (self.lifeline.check, watch.check))
        self.cleanup.callback(sandbox.close)
        return sandbox, started

    @contextmanager
    def _running(self, started: Started) -> Iterator[None]:
        """Say of a container that ended meanwhile how it did, and not what came of that."""
        try:
            yield
        except (SandboxUnavailable, docker.errors.APIError):
            check_runs(self.client, started)
            raise


def idles(client: HostClient, task: Task, environment: Environment, say: Say) -> bool:
    """Whether nothing runs in the container of an environment but capvec's own processes.

    Raises:
        UsageError: its image cannot be had.
    """
    if environment.compose or environment.healthcheck is not None:
        return False
    return not ImageConfig.of(client, task, environment, say).entrypoint


def _users(task: Task) -> Iterator[str | None]:
    """The users of all phases in the agent's container."""
    for step in task.steps:
        yield step.agent.user
        yield from (collect.user for collect in step.verifier.collect if collect.service == MAIN)
        yield step.verifier.user if step.verifier.environment is None else None
