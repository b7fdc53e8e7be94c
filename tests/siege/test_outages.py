"""Docker stopped and killed under trials: nothing is judged half."""

from __future__ import annotations

import pytest
from support.real_sweeps import no_container_is_left

from capvec.errors import SandboxUnavailable
from capvec.records import Task
from capvec.sandbox.docker import DockerProvider

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "debian:bookworm-slim"


@pytest.fixture(name="second")
def second_docker(dockerd):
    """The daemon to break, with the image of the tasks."""
    with dockerd.client() as client:
        present = client.images.list(name=IMAGE)
    if not present:
        dockerd.load(IMAGE)
    return dockerd


@pytest.fixture
def task(tmp_path, second):
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    task = Task("plain", tmp_path, "do it", "0")
    assert second.answers()
    DockerProvider().prepare(task)
    return task


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_trial_whose_container_a_restart_of_docker_ended_is_not_judged(second, task, fault) -> None:
    provider, judged = DockerProvider(), []

    def trial() -> None:
        with provider.open(task, run="outage", trial="t") as sandbox:
            sandbox.run("echo kept > /app/file", timeout_s=10)
            getattr(second, fault)()
            with pytest.raises(SandboxUnavailable):
                provider.check()
            second.start()
            provider.check()
            # The container can be started again, with its files and without its processes: half a trial.
            judged.append(sandbox.run("cat /app/file", timeout_s=10).output)

    with pytest.raises(SandboxUnavailable, match="Docker was restarted"):
        trial()
    assert judged == ["kept\n"]
    provider.clear(run="outage", trial="t")
    assert no_container_is_left("outage")
