"""Images of tasks on a real Docker: Dockerfiles that need BuildKit, builds without it, images that cannot be had."""

import json
import random
import signal
import sys
import threading
import time
import uuid
from contextlib import contextmanager

import docker
import psutil
import pytest
from support.registry import registry
from support.started_runs import Started
from support.tasks import wait_until

from capvec.errors import UsageError
from capvec.sandbox import building, docker_cli
from capvec.sandbox.docker import DockerProvider
from capvec.sandbox.docker_host import check_docker
from capvec.sandbox.images import find_image, image_tag
from capvec.task_records import Environment, Task

pytestmark = pytest.mark.integration

BASE = "FROM debian:bookworm-slim\n"
BUILDKIT = {
    "heredoc-run": BASE + "WORKDIR /app\nRUN <<EOF\nset -e\necho one > /app/one.txt\nEOF\n",
    "heredoc-copy": BASE + "WORKDIR /app\nCOPY <<EOF /app/one.txt\none\nEOF\n",
    "copy-chmod": BASE + "COPY --chmod=755 one.txt /app/one.txt\n",
    "run-mount": f"# syntax=docker/dockerfile:1\n{BASE}"
    "RUN --mount=type=cache,target=/var/cache/apt mkdir /app && echo one > /app/one.txt\n",
}
"""Dockerfiles that make /app/one.txt with what only BuildKit has."""


@pytest.fixture(scope="module")
def client():
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture
def task(client, tmp_path):
    """A task whose folder is filled by the test; its images are removed after it."""
    (tmp_path / "task" / "environment").mkdir(parents=True)
    (tmp_path / "task" / "environment" / "one.txt").write_text("one\n")
    name = f"images-{uuid.uuid4().hex[:8]}"
    yield Task(name, tmp_path / "task", "x", "0")
    for image in client.images.list(f"capvec/{name}"):
        client.images.remove(image.id, force=True)


@pytest.fixture
def no_docker_command(tmp_path, monkeypatch):
    """No `docker` on `PATH`, and so no BuildKit."""
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))


@pytest.fixture
def no_helper(tmp_path, monkeypatch):
    """The user's settings name a credential helper that is not installed, as after an uninstallation."""
    settings = tmp_path / "settings"
    settings.mkdir()
    for path in docker_cli.config_folder().glob("cli-plugins"):
        (settings / "cli-plugins").symlink_to(path)
    (settings / "config.json").write_text(json.dumps({"credsStore": "not-installed"}))
    monkeypatch.setenv("DOCKER_CONFIG", str(settings))


def write(task, dockerfile):
    (task.path / "environment" / "Dockerfile").write_text(dockerfile)


def prepared(task):
    """The image of a task, and what was said about it."""
    said = []
    return DockerProvider(say=said.append).prepare(task), said


def read(client, task, path):
    image = find_image(client, task, task.environment)
    return client.containers.run(image.id, ["cat", path], remove=True, network_mode="none").decode()


# ---------------------------------------------------------------------------------------------------------- BuildKit


@pytest.mark.parametrize("name", BUILDKIT)
def test_a_dockerfile_that_needs_buildkit_builds_or_an_old_buildkit_is_named(name, client, task):
    write(task, BUILDKIT[name])
    if name.startswith("heredoc") and int(check_docker()["Version"].partition(".")[0]) < 23:
        with pytest.raises(UsageError, match=r"uses a heredoc, and the BuildKit of this Docker .* is too old"):
            prepared(task)
        return
    image, _ = prepared(task)
    assert image.startswith("sha256:")
    assert image.endswith(" from environment/Dockerfile")
    assert read(client, task, "/app/one.txt") == "one\n"


def test_arguments_have_their_defaults_and_buildkits_own_values(client, task):
    write(task, f"{BASE}ARG WHO=world\nARG TARGETARCH\nRUN echo $WHO $TARGETARCH > /out\n")
    prepared(task)
    who, architecture = read(client, task, "/out").split()
    assert who == "world"
    assert architecture == client.version()["Arch"]


@pytest.mark.usefixtures("no_docker_command")
def test_without_buildkit_the_classic_builder_builds_what_needs_none(client, task):
    write(task, f"{BASE}ARG WHO=world\nCOPY one.txt /one.txt\nRUN echo $WHO > /out\n")
    (task.path / "environment" / ".dockerignore").write_text("ignored\n")
    prepared(task)
    assert read(client, task, "/out") == "world\n"


@pytest.mark.usefixtures("no_docker_command")
@pytest.mark.parametrize(
    "dockerfile", [*BUILDKIT.values(), f"{BASE}ARG TARGETARCH\nRUN echo $TARGETARCH\n"], ids=[*BUILDKIT, "platform"]
)
def test_without_buildkit_what_needs_it_is_refused_with_the_cause_and_the_remedy(dockerfile, task):
    write(task, dockerfile)
    with pytest.raises(UsageError, match=r"BuildKit.*no `docker` on PATH has the plugin buildx. Run `capvec setup`"):
        prepared(task)


# ------------------------------------------------------------------------------------------------ credential helpers


@pytest.mark.usefixtures("no_helper")
def test_a_missing_credential_helper_does_not_stop_a_local_build(client, task):
    write(task, f"{BASE}COPY one.txt /one.txt\n")
    prepared(task)
    assert read(client, task, "/one.txt") == "one\n"


@pytest.mark.usefixtures("no_helper", "no_docker_command")
def test_nor_does_it_stop_the_classic_builder(client, task):
    write(task, f"{BASE}COPY one.txt /one.txt\n")
    _, said = prepared(task)
    assert "docker-credential-not-installed" in said[0]
    assert "without credentials" in said[0]
    assert read(client, task, "/one.txt") == "one\n"


@pytest.mark.usefixtures("no_helper")
def test_nor_does_it_stop_a_build_on_a_public_image(task):
    with registry() as name:
        write(task, f"FROM {name}\nCOPY one.txt /one.txt\n")
        image, said = prepared(task)
    assert image.startswith("sha256:")
    assert "docker-credential-not-installed" in said[0]


@pytest.mark.usefixtures("no_helper")
def test_nor_does_it_stop_the_pull_of_a_public_image(client):
    with registry() as name:
        image, said = prepared(Task("pulled", docker_cli.config_folder(), "x", "0", Environment(image=name)))
    client.images.remove(name)
    assert image.endswith(f" from {name}")
    assert "docker-credential-not-installed" in said[0]


# ---------------------------------------------------------------------------------------------------- docker_image


def test_an_image_that_cannot_be_had_is_built_from_the_dockerfile_beside_it(client, task):
    write(task, f"{BASE}COPY one.txt /one.txt\n")
    named = Environment(image="capvec.invalid/no/such:image")
    one = Task(task.name, task.path, "x", "0", named)
    image, said = prepared(one)
    assert image.endswith(" from environment/Dockerfile")
    assert "docker_image = 'capvec.invalid/no/such:image' cannot be pulled" in said[0]
    assert "built from environment/Dockerfile instead" in said[0]
    assert str(find_image(client, one, named)) == image


def test_without_a_dockerfile_it_is_the_users_error(task):
    named = Environment(image="capvec.invalid/no/such:image")
    with pytest.raises(UsageError, match=r"cannot be pulled .*lookup"):
        prepared(Task(task.name, task.path, "x", "0", named))


def test_an_image_that_docker_has_is_taken_as_it_is(client, task):
    write(task, f"{BASE}RUN exit 1\n")
    image, said = prepared(Task(task.name, task.path, "x", "0", Environment(image="debian:bookworm-slim")))
    assert image == f"{client.images.get('debian:bookworm-slim').id} from debian:bookworm-slim"
    assert said == []


# ------------------------------------------------------------------------------------------------------------ builds


@pytest.mark.parametrize("docker_command", [True, False], ids=["buildkit", "classic"])
def test_a_build_that_takes_long_says_so_and_is_ended_when_its_time_is_up(docker_command, task, monkeypatch, request):
    if not docker_command:
        request.getfixturevalue("no_docker_command")
    seconds, said = str(random.randrange(1000, 10000)), []
    monkeypatch.setattr(building, "PROGRESS_S", 0.5)
    write(task, f"{BASE}RUN echo before-the-wait && sleep {seconds}\n")
    slow = Task(task.name, task.path, "x", "0", Environment(build_timeout_s=15.0))
    with pytest.raises(UsageError, match=r"(?s)does not build: it did not end within 15 s.*before-the-wait"):
        DockerProvider(say=said.append).prepare(slow)
    assert all(line.startswith(f"building the image of task {task.name}, ") for line in said)
    for _ in range(50):
        if not sleeps(seconds):
            return
        time.sleep(0.2)
    pytest.fail("the step still runs")


def sleeps(seconds):
    """Whether a `sleep` of so many seconds runs."""
    return any(process.info["cmdline"] == ["sleep", seconds] for process in psutil.process_iter(["cmdline"]))


PREPARE = """
import sys
import threading
from pathlib import Path
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Environment, Task
name, folder, limit_s = sys.argv[1:]
DockerProvider().prepare(Task(name, Path(folder), "x", "0", Environment(build_timeout_s=float(limit_s))))
"""


def test_a_build_during_which_its_process_is_suspended_keeps_the_rest_of_its_time(task, tmp_path):
    seconds = f"5.{random.randrange(1000, 10000)}"
    write(task, f"{BASE}RUN sleep {seconds}\n")
    with closing_kill(Started([sys.executable, "-c", PREPARE, task.name, str(task.path), "14"], tmp_path)) as build:
        build.wait_for(lambda: sleeps(seconds), 60)
        build.stop(signal.SIGSTOP, everyone=False)
        time.sleep(16)
        build.stop(signal.SIGCONT, everyone=False)
        assert build.end(60) == 0, build.said


@contextmanager
def closing_kill(started):
    try:
        yield started
    finally:
        started.kill()


def test_every_byte_and_mode_of_the_folder_gives_another_image(task):
    write(task, BASE)
    tags = [image_tag(task, task.environment)]
    (task.path / "environment" / "one.txt").write_text("two\n")
    tags.append(image_tag(task, task.environment))
    (task.path / "environment" / "one.txt").chmod(0o600)
    tags.append(image_tag(task, task.environment))
    (task.path / "environment" / "sub").mkdir()
    tags.append(image_tag(task, task.environment))
    assert len(set(tags)) == len(tags)


def test_an_image_whose_folder_changes_while_it_is_built_is_refused_and_has_no_name(client, task):
    """Its name would stand for the files of before, in every later run."""
    environment = task.path / "environment"
    mark = uuid.uuid4().hex
    (environment / "Dockerfile").write_text(f"{BASE}RUN sleep 8 # {mark}\nCOPY one.txt /app/one.txt\n")
    before = image_tag(task, task.environment)

    def change_during_the_build():
        wait_until(lambda: any(mark in " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])))
        (environment / "one.txt").write_text("two\n")

    changing = threading.Thread(target=change_during_the_build)
    changing.start()
    with pytest.raises(UsageError, match="changed while its image was built"):
        DockerProvider().prepare(task)
    changing.join()
    (environment / "one.txt").write_text("one\n")
    assert image_tag(task, task.environment) == before
    assert find_image(client, task, task.environment) is None
