"""A Docker that is slow, cut off, or lies after the first look, under sweeps: no hang, and nothing judged by half."""

from __future__ import annotations

import gc
import re
import time

import pytest
from support.docker_proxy import FAULTS, docker_proxy
from support.real_sweeps import REWARD, containers, ledger, write_task
from support.started_runs import RUN, recorded, sweep_command

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

IMAGE = "debian:bookworm-slim"
TASKS = ("one", "two", "three")
TRIALS = 2 * len(TASKS)
AWAY_S = 4.0
CALLS = {
    "the creation of containers": r"POST .*/containers/create",
    "a container's properties": r"GET .*/containers/[^/]+/json",
    "the start of containers": r"POST .*/containers/[^/]+/start",
    "the creation of programs": r"POST .*/containers/[^/]+/exec",
    "the start of programs": r"POST .*/exec/[^/]+/start",
    "the end of programs": r"GET .*/exec/[^/]+/json",
    "files into containers": r"PUT .*/archive",
    "files out of containers": r"GET .*/archive",
    "properties of files": r"HEAD .*/archive",
    "images": r"GET .*/images/.*/json",
    "events": r"GET .*/events",
    "the list of containers": r"GET .*/containers/json",
}


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


@pytest.fixture
def sweep(start, model, tasks):
    """Starts a sweep."""
    return lambda *arguments: start(sweep_command(model, "--tasks", str(tasks), *arguments))


@pytest.fixture
def folder(tmp_path):
    """The run folder of the sweeps."""
    return tmp_path / "reports" / RUN


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


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["nonsense", "status_500", "endless"])
@pytest.mark.parametrize("what", CALLS)
def test_a_docker_that_lies_about_one_thing_alone_makes_errors_in_one_sentence_each(proxy, sweep, folder, what, fault):
    run = sweep("-n", "0")
    run.wait_for(lambda: recorded(folder) >= 1)
    proxy.fault = lambda asked: FAULTS[fault]() if re.fullmatch(CALLS[what], asked.partition("?")[0]) else None
    code = run.end(400)
    outcomes = ledger(folder)
    errors = [one["error"] for one in outcomes.values() if one["outcome"] == "error"]
    assert {one["outcome"] for one in outcomes.values()} <= {"solved", "error"}
    assert code == (1 if errors or len(outcomes) < TRIALS else 0), run.said
    for error in errors:
        assert re.match(r"(Sandbox\w+|EnvironmentFault|VerifierFault): ", error), error
        assert "\n" not in error
    proxy.fault = lambda _asked: None
    resumed = sweep("-n", "0", "--resume")
    assert resumed.end() == 0, resumed.said
    assert {one["outcome"] for one in ledger(folder).values()} == {"solved"}


@pytest.mark.slow
def test_a_docker_that_answers_a_byte_at_a_time_is_left_when_the_time_of_a_call_is_up(proxy, sweep, folder):
    run = sweep("-n", "0", "--retries", "0")
    run.wait_for(lambda: recorded(folder) >= 1)
    began = time.monotonic()
    proxy.fault = lambda asked: FAULTS["slow"]() if re.search("/containers/create", asked) else None
    run.wait_for(lambda: any(one["outcome"] == "error" for one in ledger(folder).values()), 300)
    proxy.fault = lambda _asked: None
    assert time.monotonic() - began < 200
    assert run.end() == 1, run.said
    errors = [one["error"] for one in ledger(folder).values() if one["outcome"] == "error"]
    assert all("does not answer POST /containers/create within 120 s" in error for error in errors)


@pytest.mark.slow
def test_a_docker_each_of_whose_answers_takes_seconds_costs_no_trial(proxy, sweep, folder):
    run = sweep("-n", "2")
    run.wait_for(lambda: recorded(folder) >= 1)
    proxy.fault = lambda _asked: time.sleep(2)
    assert run.end(900) == 0, run.said
    outcomes = ledger(folder)
    assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (TRIALS, {"solved"})
    assert not any(one["lost"] for one in outcomes.values())
