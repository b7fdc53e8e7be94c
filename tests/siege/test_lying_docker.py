"""A Docker that lies or is cut off after the first look, under sweeps: no hang, and nothing is judged by half."""

from __future__ import annotations

import gc
import time

import pytest
from support.docker_proxy import FAULTS, docker_proxy
from support.real_sweeps import REWARD, containers, ledger, write_task
from support.started_runs import RUN, recorded

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "debian:bookworm-slim"
TASKS = ("one", "two", "three")
TRIALS = 2 * len(TASKS)
AWAY_S = 4.0


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Tasks whose verifiers take a moment."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in TASKS:
        write_task(folder / name, f"sleep 1\n{REWARD.format(1)}")
    return folder


@pytest.fixture
def proxy(dockerd, tmp_path_factory, monkeypatch):
    """A socket in front of the tests' own daemon, which has the image of the tasks."""
    with dockerd.client() as client:
        present = client.images.list(name=IMAGE)
    if not present:
        dockerd.load(IMAGE)
    with docker_proxy(tmp_path_factory.mktemp("p") / "s", dockerd.host) as proxy:
        monkeypatch.setenv("DOCKER_HOST", proxy.host)
        yield proxy
        proxy.fault = lambda _asked: None
        assert not containers(RUN)
    gc.collect()  # while the warning of what the SDK leaves is ignored


@pytest.mark.slow
@pytest.mark.parametrize("fault", sorted(FAULTS.keys() - {"slow"}))
def test_a_docker_that_says_nonsense_for_a_while_costs_no_trial(proxy, sweep, folder, fault):
    run = sweep("-n", "2")
    run.wait_for(lambda: recorded(folder) >= 1)
    proxy.fault = lambda _asked: FAULTS[fault]()
    time.sleep(AWAY_S)
    proxy.fault = lambda _asked: None
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (TRIALS, {"solved"})
    assert {lost["away"] for one in outcomes.values() for lost in one["lost"]} <= {"Docker", None}
