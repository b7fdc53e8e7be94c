"""Whether Docker or a task is at fault where Docker fails with the task."""

from __future__ import annotations

import pytest

from capvec.errors import InfrastructureError, SandboxBroken, SandboxUnavailable
from capvec.run.blame import PAUSES_S, tried_again

pytestmark = pytest.mark.unit


class Docker:
    """Fails at the calls of these numbers."""

    def __init__(self, *fails: int) -> None:
        self.fails, self.calls = fails, 0
        self.pauses: list[float] = []

    def __call__(self) -> str:
        self.calls += 1
        if self.calls in self.fails:
            raise SandboxBroken(f"Docker failed: {self.calls}")
        return "done"


TRIES = len(PAUSES_S)


@pytest.mark.parametrize("failures", range(TRIES))
def test_what_goes_well_at_a_later_try_is_done_after_pauses_and_without_a_witness(failures: int) -> None:
    docker = Docker(*range(1, failures + 1))
    assert tried_again("a", docker, None, docker.pauses.append) == "done"
    assert docker.pauses == list(PAUSES_S[: failures + 1])


def test_without_a_witness_nobody_is_to_blame() -> None:
    docker = Docker(*range(1, TRIES + 1))
    with pytest.raises(InfrastructureError, match=rf"^task a: Docker failed: {TRIES}; .*no task with which") as raised:
        tried_again("a", docker, None, docker.pauses.append)
    assert not isinstance(raised.value, SandboxUnavailable)


def test_where_a_witness_fails_too_docker_is_to_blame() -> None:
    docker = Docker(*range(1, TRIES + 2))
    with pytest.raises(InfrastructureError, match=rf"all went well, too: Docker failed: {TRIES + 1}\. It is not known"):
        tried_again("a", docker, docker, docker.pauses.append)


def test_where_a_witness_does_well_what_fails_once_more_is_the_tasks_fault() -> None:
    docker = Docker(*range(1, TRIES + 2))
    found = tried_again("a", docker, Docker(), docker.pauses.append)
    assert isinstance(found, SandboxUnavailable)
    assert str(found) == f"Docker failed: {TRIES + 1}"


def test_where_a_witness_does_well_what_does_not_fail_again_is_done() -> None:
    docker = Docker(*range(1, TRIES + 1))
    assert tried_again("a", docker, Docker(), docker.pauses.append) == "done"
