"""`kill -9` of each process of a run: what the others do, and what is left for the next run."""

from __future__ import annotations

import pytest
from support.real_sweeps import REWARD, containers, ledger, no_container_is_left, write_task
from support.started_runs import QUICK, RUN, capvec_command, recorded, sweep_command, underway

pytestmark = [pytest.mark.siege, pytest.mark.slow]

TASKS = ("one", "two", "three")
TRIALS = 2 * len(TASKS)


@pytest.fixture
def tasks(tmp_path):
    """Tasks whose verifiers take a while."""
    for name in TASKS:
        write_task(tmp_path / "tasks" / name, f"sleep 3\n{REWARD.format(1)}")
    return tmp_path / "tasks"


def test_a_killed_worker_costs_one_trial_which_resume_runs(start, model, tasks, tmp_path):
    folder = tmp_path / "reports" / RUN
    arguments = ("-n", "2", "--tasks", str(tasks))
    swept = start(sweep_command(model, *arguments))
    swept.wait_for(underway(folder, 1))
    swept.workers()[0].kill()
    assert swept.end() == pytest.ExitCode.TESTS_FAILED, swept.said
    outcomes = ledger(folder)
    assert len(outcomes) == TRIALS
    lost = [one for one in outcomes.values() if one["outcome"] != "solved"]
    assert [(one["outcome"], "crashed" in one["error"]) for one in lost] == [("error", True)]
    assert swept.left() == []
    assert no_container_is_left(RUN)
    resumed = start(sweep_command(model, *arguments, "--resume"))
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    after = ledger(folder)
    assert {one["outcome"] for one in after.values()} == {"solved"}
    assert {name for name in outcomes if after[name] != outcomes[name]} == {one["trial"] for one in lost}


def test_a_killed_engine_costs_no_trial(start, model, tasks, tmp_path):
    swept = start(sweep_command(model, "-n", "2", "--tasks", str(tasks)))
    swept.wait_for(underway(tmp_path / "reports" / RUN, 1))
    swept.engine().kill()
    assert swept.end() == pytest.ExitCode.OK, swept.said
    outcomes = ledger(tmp_path / "reports" / RUN)
    assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (TRIALS, {"solved"})
    assert swept.left() == []
    assert no_container_is_left(RUN)


@pytest.mark.parametrize("workers", ["0", "2"])
def test_of_a_killed_controller_nothing_runs_on_and_resume_completes_the_run(start, model, tasks, tmp_path, workers):
    folder = tmp_path / "reports" / RUN
    arguments = ("-n", workers, "--tasks", str(tasks))
    swept = start(sweep_command(model, *arguments))
    swept.wait_for(underway(folder, 1))
    swept.process.kill()
    swept.end(10)
    assert swept.left() == []  # the engine and the workers end with it
    kept = ledger(folder)
    resumed = start(sweep_command(model, *arguments, "--resume"))
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    after = ledger(folder)
    assert (len(after), {one["outcome"] for one in after.values()}) == (TRIALS, {"solved"})
    assert kept.items() <= after.items()
    assert no_container_is_left(RUN)


@pytest.mark.parametrize("whom", ["the collection", "its engine"])
def test_a_killed_collection_keeps_its_traces_and_a_killed_engine_costs_none(start, model, tasks, tmp_path, whom):
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--jobs", "2")
    process = start(capvec_command("collect", *options, "--attempts", "2", "--out", RUN))
    process.wait_for(underway(tmp_path / RUN, 1))
    if whom == "its engine":
        process.engine().kill()
        assert process.end() == 0, process.said
        outcomes = ledger(tmp_path / RUN)
        assert (len(outcomes), {one["outcome"] for one in outcomes.values()}) == (TRIALS, {"solved"})
    else:
        process.process.kill()
        process.end(10)
        assert 1 <= recorded(tmp_path / RUN) < TRIALS
        assert containers(RUN)
        again = start(capvec_command("check", str(tasks)))  # any command that asks Docker removes what was left
        again.end()
        assert "of earlier runs" in again.said
    assert process.left() == []
    assert no_container_is_left(RUN)
