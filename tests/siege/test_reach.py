"""What an agent without network reaches of the host: nothing."""

from __future__ import annotations

import socket

import docker
import psutil
import pytest
from support.hostile_agents import RUN, write_task

from capvec.sandbox.docker import DockerProvider

pytestmark = pytest.mark.siege


@pytest.fixture
def listening():
    """A port that this machine answers on, at every address, as an engine does at one."""
    with socket.create_server(("0.0.0.0", 0)) as server:
        yield server.getsockname()[1]


def gateway() -> str:
    """The address of the host on Docker's bridge."""
    client = docker.from_env()
    try:
        bridge = client.networks.get("bridge").attrs["Options"]["com.docker.network.bridge.name"]
    finally:
        client.close()
    return next(one.address for one in psutil.net_if_addrs()[bridge] if one.family == socket.AF_INET)


def test_nothing_outside_the_container_is_reached(tmp_path, listening):
    addresses = [
        *(("127.0.0.1", listening), (gateway(), listening), (gateway(), 2375), ("169.254.169.254", 80)),
        *(("1.1.1.1", 53), ("fd00:ec2::254", 80)),
    ]
    with socket.create_connection(("127.0.0.1", listening), timeout=5):
        pass  # the host itself reaches it
    task = write_task(tmp_path)
    DockerProvider().prepare(task)
    with DockerProvider().open(task, run=RUN, trial="reach") as sandbox:
        for host, port in addresses:
            connect = f"timeout 2 bash -c 'exec 3<>/dev/tcp/{host}/{port}' && echo reached"
            result = sandbox.run(connect, timeout_s=10)
            assert (result.exit_code != 0, "reached" in result.output) == (True, False), (host, port)
        found = sandbox.run("find / -xdev -type s 2>/dev/null; ls /var/run/docker.sock /run/containerd", timeout_s=20)
        assert found.output.count("No such file") == 2
        assert not found.output.startswith("/")
        links = sandbox.run("ls /sys/class/net", timeout_s=10)
        assert links.output.split() == ["lo"]
