"""Docker and the engine stopped, killed, restarted and hung under sweeps: nothing is lost, nothing is judged half."""

from __future__ import annotations

import gc
import json
import sys
import time

import pytest
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.started_runs import QUICK, RUN, capvec_command, recorded

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Task

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TASKS = ("one", "two", "three")
TRIALS = 2 * len(TASKS)
IMAGE = "debian:bookworm-slim"
SLOW = "sleep 2\n"


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Tasks whose verifiers take a while, and that a selection can be made on."""
    folder = tmp_path_factory.mktemp("tasks")
    for name in TASKS:
        write_task(folder / name, SLOW + REWARD.format(1))
        with (folder / name / "task.toml").open("a") as file:
            file.write('[metadata]\nfamily = "waits"\nsplit = "trained"\n')
    return folder


@pytest.fixture(name="second")
def second_docker(dockerd):
    """The daemon to break, with the image of the tasks."""
    dockerd.load(IMAGE)
    yield dockerd
    gc.collect()  # while the warning of what the SDK leaves is ignored


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stop", "kill", "restart"])
def test_a_short_outage_of_docker_costs_no_trial(second, sweep, folder, fault) -> None:
    run = sweep("-n", "2")
    run.wait_for(lambda: recorded(folder) >= 1)
    getattr(second, fault)()
    if fault != "restart":
        time.sleep(8)
        second.start()
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert len(outcomes) == TRIALS
    assert {one["outcome"] for one in outcomes.values()} == {"solved"}
    lost = [one for outcome in outcomes.values() for one in outcome["lost"]]
    assert 1 <= len(lost) <= 4  # those that ran, and those that were due
    assert len((folder / "trials.jsonl").read_text().splitlines()) == TRIALS
    if fault != "restart":
        assert {one["away"] for one in lost} == {"Docker"}
        assert "Docker has not answered for" in run.said
        assert "Docker answers again" in run.said
    assert no_container_is_left(RUN)


@pytest.mark.slow
def test_docker_and_the_engine_may_both_be_lost_under_four_workers(second, sweep, folder) -> None:
    run = sweep("-n", "4", "--attempts", "2")
    run.wait_for(lambda: recorded(folder) >= 2)
    second.kill()
    run.engine().kill()
    time.sleep(4)
    second.start()
    assert run.end() == 0, run.said
    outcomes = ledger(folder)
    assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (2 * TRIALS, {"solved"})
    assert run.left() == []
    assert no_container_is_left(RUN)


@pytest.mark.slow
@pytest.mark.parametrize("what", ["collect", "select"])
def test_what_runs_without_pytest_outlives_docker_and_engine_too(second, start, model, tasks, folder, tmp_path, what):
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--jobs", "2")
    command = capvec_command("collect", *options, "--attempts", "2", "--out", f"reports/{RUN}")
    if what == "select":
        program = (sys.executable, "-m", "capvec.studies.calibration.select")
        command = [*program, *options, "--layer", "1", "--alpha", "1", "--run", RUN, "--out", "chosen.json"]
    run = start(command)
    run.wait_for(lambda: recorded(folder) >= 1)
    second.kill()
    run.engine().kill()
    time.sleep(4)
    second.start()
    code = run.end()
    outcomes = ledger(folder)
    assert {one["outcome"] for one in outcomes.values()} == {"solved"}, run.said
    # All pass alike, so that the selection's own gates are not met.
    assert (code, len(outcomes)) == ((0, TRIALS) if what == "collect" else (1, 3 * len(TASKS))), run.said
    assert (tmp_path / "chosen.json").exists() == (what == "select")
    assert run.left() == []
    assert no_container_is_left(RUN)


@pytest.mark.slow
def test_a_selection_without_all_its_trials_selects_nothing(second, start, model, tasks, folder, tmp_path):
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--layer", "1", "--alpha", "1")
    command = [sys.executable, "-m", "capvec.studies.calibration.select", *options, "--max-outage", "3", "--run", RUN]
    run = start([*command, "--out", "chosen.json"])
    run.wait_for(lambda: recorded(folder) >= len(TASKS))
    second.kill()
    assert run.end() == 1, run.said
    assert "nothing is selected, since " in run.said
    assert f"--run {RUN} --resume" in run.said
    assert not (tmp_path / "chosen.json").exists()


@pytest.mark.slow
def test_a_docker_that_stays_away_stops_the_sweep_and_resume_completes_it(second, sweep, folder) -> None:
    run = sweep("-n", "2", "--max-outage", "5")
    run.wait_for(lambda: recorded(folder) >= 1)
    second.stop()
    assert run.end() == 1, run.said
    outcomes = ledger(folder)
    valid = {name for name, one in outcomes.items() if one["outcome"] != "error"}
    assert {one["away"] for name, one in outcomes.items() if name not in valid} == {"Docker"}
    assert len(outcomes) < TRIALS
    assert "Docker did not come back within 5 s" in run.said
    assert f"--run {RUN} --resume" in run.said
    assert "NOT RUN" in run.said
    assert json.loads((folder / "summary.json").read_text())["stopped"]
    second.start()
    again = sweep("-n", "2", "--resume")
    assert again.end() == 0, again.said
    after = ledger(folder)
    assert len(after) == TRIALS
    assert {name: after[name] for name in valid} == {name: outcomes[name] for name in valid}
    assert no_container_is_left(RUN)


@pytest.mark.slow
@pytest.mark.usefixtures("second")
def test_an_engine_that_hangs_is_said_and_goes_on(sweep, folder) -> None:
    run = sweep("-n", "2")
    run.wait_for(lambda: recorded(folder) >= 1)
    engine = run.engine()
    engine.suspend()
    run.wait_for(lambda: "the engine has not answered for" in run.said, 60)
    engine.resume()
    assert run.end() == 0, run.said
    assert "the engine answers again" in run.said
    assert not any(one["lost"] for one in ledger(folder).values())


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
