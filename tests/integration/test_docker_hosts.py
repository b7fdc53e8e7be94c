"""Places on several Docker hosts: who gets the next one, and whose place is free again.

The machine's own Docker has two addresses here, and stands for two hosts.
"""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from contextlib import ExitStack

import docker
import pytest
from support.sshd import sshd, why_not
from support.tasks import make_task

from capvec.errors import SandboxUnavailable, UsageError
from capvec.sandbox import docker_cli
from capvec.sandbox.base_image import BASE_IMAGE
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import DockerHost, connect
from capvec.sandbox.hosts import DockerHosts, reach
from capvec.sandbox.reaper import RUN_LABEL
from capvec.tasks import load_task

pytestmark = [
    pytest.mark.integration,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

ONE, TWO = "unix:///var/run/docker.sock", "unix:///run/docker.sock"
GONE = "tcp://127.0.0.1:1"
RUN = f"hosts-{os.getpid()}"
COMPOSE = f"services: {{main: {{}}, beside: {{image: '{BASE_IMAGE}', command: sleep infinity}}}}\n"
HOLDS = """\
import sys
from pathlib import Path
from capvec.sandbox.docker_host import DockerHost
from capvec.sandbox.hosts import DockerHosts
with DockerHosts(tuple(map(DockerHost, sys.argv[2:])), Path(sys.argv[1])).place() as host:
    print(host.name, flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def own(monkeypatch):
    """The Docker of the environment is the machine's own."""
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    client = docker.from_env()
    client.close()
    if client.api.base_url != "http+docker://localhost":
        pytest.skip("the machine's Docker has no local socket")
    yield
    gc.collect()  # while the warning of what the SDK leaves is ignored


@pytest.fixture
def hosts(tmp_path):
    """Makes hosts of these names, with these numbers of CPUs."""
    return lambda **cpus: DockerHosts(tuple(DockerHost({"a": ONE, "b": TWO, "gone": GONE}[name], cpus=number)
                                            for name, number in cpus.items()), tmp_path)  # fmt: skip


def test_trials_are_spread_by_the_cpus_of_the_hosts(hosts) -> None:
    with ExitStack() as held:
        several = hosts(a=1, b=3)
        taken = [held.enter_context(several.place()).name for _ in range(8)]
    assert (taken.count(ONE), taken.count(TWO)) == (2, 6)


def test_a_place_that_was_given_back_is_the_next_one(hosts) -> None:
    several = hosts(a=1, b=1)
    with several.place() as first, several.place() as second:
        assert {first.name, second.name} == {ONE, TWO}
    with several.place() as first:
        for _ in range(3):
            with several.place() as second:
                assert second != first


def test_places_are_counted_across_processes_and_end_with_theirs(hosts, tmp_path) -> None:
    several = hosts(a=1, b=1)
    command = [sys.executable, "-c", HOLDS, str(tmp_path), ONE, TWO]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline().strip() == ONE
        for _ in range(2):
            with several.place() as host:
                assert host.name == TWO
        other.kill()
        other.wait()
    with several.place() as host:
        assert host.name == ONE
    assert not list(tmp_path.glob("[0-9]-*"))


def test_a_host_that_does_not_answer_is_passed_over(hosts) -> None:
    several = hosts(gone=9, a=1)
    assert several.silent() == (GONE,)
    several.check()
    assert several.is_lost(GONE)
    assert not several.is_lost(ONE)
    with several.place() as host, several.place() as another:
        assert (host.name, another.name) == (ONE, ONE)


def test_where_none_answers_all_are_named(hosts) -> None:
    several = hosts(gone=1)
    with pytest.raises(SandboxUnavailable, match=GONE):
        several.check()
    assert not several.is_lost(GONE)  # there is no other


def test_a_host_on_which_something_fails_gets_the_next_trial_only_where_no_other_is_there(hosts) -> None:
    several = hosts(a=100, b=1)
    with pytest.raises(SandboxUnavailable, match="full"), several.place() as host:
        raise SandboxUnavailable("the disk is full")
    assert host.name == ONE
    for _ in range(3):
        with several.place() as host:
            assert host.name == TWO


@pytest.mark.parametrize("services", [False, True])
def test_the_sandboxes_of_a_place_are_all_on_its_host(hosts, tmp_path, monkeypatch, services) -> None:
    if services and docker_cli.command_with("compose") is None:
        pytest.skip("no docker compose")
    folder = make_task(tmp_path / "tasks")
    (folder / "environment" / "Dockerfile").write_text(f"FROM {BASE_IMAGE}\nRUN echo {services} > /built\n")
    if services:
        (folder / "environment" / "docker-compose.yaml").write_text(COMPOSE)
    task = load_task(folder)
    provider = DockerProvider(hosts=hosts(a=1, b=1))
    monkeypatch.setenv("DOCKER_HOST", GONE)  # nothing may ask the Docker of the environment
    provider.prepare(task)
    with provider.place() as place:
        assert place.host in {ONE, TWO}
        with place.open(task, run=RUN, trial="t") as sandbox:
            assert sandbox.run("cat /built", timeout_s=10).output == f"{services}\n"
        with place.open(task, run=RUN, trial="t"):
            provider.clear(run=RUN, trial="t")
            with connect(DockerHost(ONE)) as client:
                assert not client.containers.list(all=True, filters={"label": f"{RUN_LABEL}={RUN}"})


@pytest.mark.parametrize(
    ("names", "error"),
    [
        ((ONE, ONE), f"--docker-host {ONE}: it is given twice"),
        ((ONE, TWO), f"--docker-host {ONE} and {TWO} are the same Docker"),
        (("no-such-context",), "there is no such context; `docker context ls` lists them"),
        (
            ("ssh://127.0.0.1:1",),
            r"cannot be reached by SSH \(ssh: connect to host 127.0.0.1 port 1: Connection refused",
        ),
        ((GONE,), rf"the Docker host {GONE} does not answer \(Connection refused\)"),
    ],
)
def test_hosts_that_cannot_be_used_are_told_in_one_sentence(names, error) -> None:
    with pytest.raises((UsageError, SandboxUnavailable), match=error), reach(names):
        pass


def test_a_context_names_a_host(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text("{}")
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    subprocess.run(["docker", "context", "create", "far", "--docker", f"host={TWO}"], check=True, capture_output=True)
    monkeypatch.setenv("DOCKER_HOST", GONE)
    with reach(["far"]) as hosts, connect(hosts.hosts[0]) as client:
        assert client.images.get(BASE_IMAGE)


def test_a_host_at_the_end_of_ssh_attaches_to_containers_and_its_tunnel_is_opened_again(monkeypatch, tmp_path) -> None:
    if reason := why_not():
        pytest.skip(reason)
    task = load_task(make_task(tmp_path / "tasks"))
    with sshd() as server:
        monkeypatch.setenv("PATH", str(server.programs), prepend=":")
        with reach([server.address("")]) as hosts:
            provider = DockerProvider(hosts=hosts)
            provider.prepare(task)
            for _ in range(2):
                with provider.open(task, run=RUN, trial="ssh") as sandbox:
                    assert sandbox.run("echo there", timeout_s=10).output == "there\n"
                server.cut()
                with pytest.raises(SandboxUnavailable, match=r"ssh://.* does not answer"):
                    provider.check()
                server.start()
                _wait_for(provider)


def _wait_for(provider: DockerProvider) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            return provider.check()
        except SandboxUnavailable:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
