"""The connection of a program in a container, where Docker or what is on the way to it fails it."""

from __future__ import annotations

import os
import time

import pytest
from support.docker_proxy import Once, docker_proxy, nonsense, opened

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import DockerHost
from capvec.sandbox.hosts import DockerHosts
from capvec.task_records import Task

pytestmark = pytest.mark.integration
RUN = f"test-connections-{os.getpid()}"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """A socket in front of the usual daemon."""
    behind = os.environ.get("DOCKER_HOST", "unix:///var/run/docker.sock")
    with docker_proxy(tmp_path_factory.mktemp("p") / "s", behind) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def sandbox(proxy, tmp_path_factory):
    folder = tmp_path_factory.mktemp("task")
    (folder / "environment").mkdir()
    (folder / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    hosts = DockerHosts((DockerHost(proxy.host),))
    with DockerProvider(hosts=hosts).open(Task("plain", folder, "do it", "0"), run=RUN, trial="plain") as sandbox:
        yield sandbox


def hello(sandbox):
    return sandbox.execute(("echo", "hello"), timeout_s=20)


def test_what_a_program_printed_before_anybody_listened_is_read(proxy, sandbox, monkeypatch):
    """On busy cores its output comes together with the head of Docker's answer."""
    monkeypatch.setattr(proxy, "gather_s", 0.5)
    assert [hello(sandbox).output for _ in range(3)] == ["hello\n"] * 3
    sandbox.hang_up()
    assert sandbox.run("echo hello", timeout_s=20).output == "hello\n"


LOST = {
    "never started": (opened(), "neither runs it nor says how it ended"),
    "no connection": (nonsense, "is of the type application/json"),
    "cut off": (opened(b"\1\0\0\0\0\0\0\6hel"), "was cut off"),
}


@pytest.mark.parametrize("fault", LOST)
def test_a_program_that_docker_takes_and_loses_is_its_fault_and_said_soon(proxy, sandbox, monkeypatch, fault):
    answer, said = LOST[fault]
    for program in (hello, lambda sandbox: sandbox.run("echo hello", timeout_s=20)):
        sandbox.hang_up()
        monkeypatch.setattr(proxy, "fault", Once("exec start", answer))
        began = time.monotonic()
        with pytest.raises(SandboxUnavailable, match=said):
            program(sandbox)
        assert time.monotonic() - began < 10
    assert hello(sandbox).output == "hello\n"
