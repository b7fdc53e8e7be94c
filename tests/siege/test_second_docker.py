"""The daemon that takes the blows: it breaks alone, and comes back with its images."""

from __future__ import annotations

import docker
import pytest

from capvec.sandbox.base_image import BASE_IMAGE, has_base_image
from capvec.sandbox.docker_host import check_docker

pytestmark = pytest.mark.siege


@pytest.fixture
def own():
    """A client of the machine's own Docker."""
    client = docker.DockerClient(base_url="unix:///var/run/docker.sock")
    yield client
    client.close()


def test_it_is_killed_and_comes_back_while_the_machines_own_docker_runs_on(dockerd, own):
    first = dockerd.pid
    with dockerd.client() as client:
        name = client.containers.run(BASE_IMAGE, ["sleep", "600"], detach=True, init=True).name
    dockerd.kill()
    assert not dockerd.answers()
    assert own.ping()
    dockerd.start()
    assert dockerd.pid != first
    with dockerd.client() as client:
        assert [container.name for container in client.containers.list(all=True)] == [name]
    assert check_docker()["Version"]
    assert has_base_image()


def test_the_machines_own_containers_keep_their_bridge(dockerd, own):
    dockerd.restart()
    said = own.containers.run(BASE_IMAGE, ["cat", "/proc/net/dev"], remove=True)
    assert b"eth0" in said
