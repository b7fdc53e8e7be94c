"""A Docker that lies, fails or is cut off after the first look: no hang, and nothing is judged by half."""

from __future__ import annotations

import gc
import math
import re
import time

import pytest
from support.docker_proxy import CALLS, FAULTS, For, Once, docker_proxy, failed
from support.real_sweeps import REWARD, containers, ledger, write_task
from support.real_trials import repeater
from support.started_runs import RUN, capvec_command, recorded

from capvec.sandbox.docker import DockerProvider
from capvec.tasks import load_task
from dev.agent.scripted_model import ScriptedModel

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


def in_time(proxy):
    proxy.fault = lambda _asked: None
    proxy.byte_s = 0.0


def late(proxy):
    """Each answer comes some seconds late."""
    proxy.fault = lambda _asked: time.sleep(3.0)


def byte_by_byte(proxy):
    proxy.byte_s = 0.01


@pytest.mark.slow
@pytest.mark.parametrize("slow", [late, byte_by_byte])
def test_a_docker_that_is_slow_for_a_while_costs_no_trial(proxy, sweep, folder, slow):
    run = sweep("-n", "2")
    run.wait_for(lambda: recorded(folder) >= 1)
    slow(proxy)
    time.sleep(5 * AWAY_S)
    in_time(proxy)
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert [(one["outcome"], one["lost"], one["note"]) for one in outcomes.values()] == [("solved", [], "")] * TRIALS


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["cut", "garbage", "nonsense"])
@pytest.mark.parametrize(
    "kind", ["create", "start", "exec", "exec start", "inspect", "archive get", "archive put", "pause", "remove"]
)
def test_one_lie_alone_costs_no_trial(proxy, sweep, folder, kind, fault):
    proxy.fault = lie = Once(kind, FAULTS[fault], first=3)
    run = sweep("-n", "2")
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert lie.met > 3
    assert [(one["outcome"], one["note"]) for one in outcomes.values()] == [("solved", "")] * TRIALS


class Worker:
    """Solves its task with two commands, however often it begins anew."""

    def __init__(self, before_done=lambda: None):
        """`before_done` is called before the first reply that says that the work is done."""
        self._before_done, self._model = before_done, ScriptedModel([])

    def complete(self, messages, **asked):
        if len(messages) == 2:
            self._model = ScriptedModel(["```bash\nprintf d > said\n```", "```bash\necho one >> said\n```", "DONE"])
        if len(messages) == 6:
            self._before_done()
            self._before_done = lambda: None
        return self._model.complete(messages, **asked)


@pytest.fixture(params=["beside the agent", "apart"])
def task(request, proxy, tmp_path):
    """A task whose verifier wants what `Worker` does, and whose solution shows that it can be judged."""
    write_task(tmp_path / "work", f'[ "$(cat /app/said)" = done ] || exit 1\n{REWARD.format(1)}')
    (tmp_path / "work" / "solution").mkdir()
    (tmp_path / "work" / "solution" / "solve.sh").write_text("printf done > /app/said\n")
    if request.param == "apart":
        settings = tmp_path / "work" / "task.toml"
        separate = '[verifier]\nenvironment_mode = "separate"\n'
        settings.write_text(f'artifacts = ["/app"]\n{settings.read_text()}{separate}')
    task = load_task(tmp_path / "work")
    DockerProvider().prepare(task)
    proxy.asked.clear()
    return task


OWN_FAULTS = {
    "of its own": failed("containerd is not ready"),
    "as of a program": failed("OCI runtime exec failed: exec failed: resource temporarily unavailable: unknown"),
}
"""What a Docker says that has failed by itself, once in the words in which it says that a program is missing."""


@pytest.mark.parametrize("said", OWN_FAULTS)
@pytest.mark.parametrize(
    "kind", [pytest.param(kind, marks=() if kind == "exec start" else pytest.mark.slow) for kind in CALLS]
)
def test_one_call_that_docker_fails_by_itself_leaves_no_trial_unsolved(proxy, task, tmp_path, kind, said):
    """The first call of its kind, one in the middle, and the last."""
    trial = repeater(task, Worker(), RUN, tmp_path / "whole")
    (spec,) = trial.runner.plan.trials
    assert trial.run(spec).outcome == "solved"
    calls = sum(bool(re.match(CALLS[kind], one)) for one in proxy.asked)
    for first in sorted({0, calls // 2, calls - 1} & {*range(calls)}):
        proxy.fault = fault = Once(kind, OWN_FAULTS[said], first=first)
        outcome = repeater(task, Worker(), RUN, tmp_path / str(first)).run(spec)
        proxy.fault = lambda _asked: None
        assert fault.met > first
        assert (outcome.outcome, outcome.note, outcome.error) == ("solved", "", "")
        assert not containers(RUN)


@pytest.mark.slow
@pytest.mark.parametrize("said", OWN_FAULTS)
@pytest.mark.parametrize("times", [2, 8])
@pytest.mark.parametrize("kind", ["archive get", "archive put", "create", "exec", "exec start", "inspect", "pause"])
def test_a_docker_that_fails_for_a_while_when_a_trial_is_judged_leaves_it_not_unsolved(
    proxy, task, tmp_path, kind, times, said
):
    def fail():
        proxy.fault = Once(kind, OWN_FAULTS[said], times=times)

    trial = repeater(task, Worker(fail), RUN, tmp_path / "run")
    outcome = trial.run(*trial.runner.plan.trials)
    assert outcome.outcome in (["solved"] if times == 2 else ["solved", "error"])
    assert outcome.note == ""


@pytest.fixture
def proof(tmp_path):
    """Writes two fit tasks, and gives the command that proves them."""
    for name in TASKS[:2]:
        write_task(tmp_path / "tasks" / name, f"test -e /app/done; n=$?\n{REWARD.format('$((1-n))')}")
        (tmp_path / "tasks" / name / "solution").mkdir()
        (tmp_path / "tasks" / name / "solution" / "solve.sh").write_text("touch /app/done\n")
    return capvec_command("check", str(tmp_path / "tasks"))


CHECKED = ["create", "start", "exec", "exec start", "inspect", "archive get", "archive put", "pause"]
"""Kinds of calls without which no task can be checked."""


@pytest.mark.slow
@pytest.mark.parametrize("said", OWN_FAULTS)
@pytest.mark.parametrize("kind", CHECKED)
def test_a_docker_that_fails_for_a_while_makes_no_task_unfit(proxy, start, proof, kind, said):
    proxy.fault = fault = For(kind, OWN_FAULTS[said], AWAY_S)
    check = start(proof)
    assert check.end() == 0, check.said
    assert "2 of 2 tasks proved" in check.said
    assert fault.met > 1


@pytest.mark.slow
@pytest.mark.parametrize("said", OWN_FAULTS)
@pytest.mark.parametrize("kind", CHECKED)
def test_a_docker_that_fails_on_and_on_is_said_and_no_task_is_unfit(proxy, start, proof, kind, said):
    proxy.fault = For(kind, OWN_FAULTS[said], math.inf)
    check = start(proof)
    assert check.end() == 2, check.said
    assert "unfit" not in check.said
    assert check.said.count("It is not known whether the task is fit") == 1
