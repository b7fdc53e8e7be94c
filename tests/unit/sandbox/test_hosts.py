"""How long a host rests on which something failed. What answers as Docker does stands for two hosts."""

from __future__ import annotations

import os
import time

import pytest
from support.odd_docker import odd_docker

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker_host import DockerHost
from capvec.sandbox.hosts import REST_S, DockerHosts

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("set_back_s", "rests"), [(0.0, True), (REST_S / 2, True), (3600.0, False), (1e8, False)])
def test_a_clock_that_was_set_back_lets_no_host_rest_for_longer(tmp_path, set_back_s, rests):
    with odd_docker({}) as one, odd_docker({}) as other:
        several = DockerHosts((DockerHost(one), DockerHost(other)), tmp_path)
        with pytest.raises(SandboxUnavailable), several.place():
            raise SandboxUnavailable("no")
        (file,) = tmp_path.glob("resting-*")
        then = time.time() + set_back_s
        os.utime(file, (then, then))
        with several.place() as host:
            assert host.name == (other if rests else one)
