"""Faults, attacks and hostile input that take long or break what they touch. `docs/siege.md` lists what each promises.

`make siege` runs all of it, every night too; `make test` runs what is not marked `slow`, under three minutes in all. A
test that stops Docker, or takes its disk or its memory, does it to the daemon of the fixture `dockerd`, never to the
machine's own.
"""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from support.dockerd import Dockerd, dockerd, why_not
from support.started_runs import RUN, Started, sweep_command, write_model

from capvec.sandbox.base_image import BASE_IMAGE


@pytest.fixture(scope="session")
def daemon():
    """The one daemon of a session, with the base image of the bundled tasks. Tests ask for `dockerd`."""
    if reason := why_not():
        pytest.skip(reason)
    with dockerd() as running:
        running.load(BASE_IMAGE)
        yield running


@pytest.fixture(name="dockerd")
def running_dockerd(daemon: Dockerd, monkeypatch):
    """A Docker daemon of the tests' own, which runs, has no container, and is the one that capvec asks."""
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    daemon.start()
    yield daemon
    daemon.start()
    daemon.remove_containers()


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """The folder of a small model and a direction that fits it."""
    return write_model(tmp_path_factory.mktemp("model"))


@pytest.fixture
def start(tmp_path):
    """Starts a process in the test's folder, or in another; what is left of it at the end is killed."""
    with ExitStack() as cleanup:

        def start(command, cwd=tmp_path, **environ: str) -> Started:
            started = Started(command, cwd, environ)
            cleanup.callback(started.kill)
            return started

        yield start


@pytest.fixture
def sweep(start, model, tasks):
    """Starts a sweep over the `tasks` of the module that asks for it."""
    return lambda *arguments: start(sweep_command(model, "--tasks", str(tasks), *arguments))


@pytest.fixture
def folder(tmp_path):
    """The run folder of the sweeps."""
    return tmp_path / "reports" / RUN
