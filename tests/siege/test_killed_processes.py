"""`kill -9` of each process of a run: what the others do, and what is left for the next run."""

from __future__ import annotations

import pytest
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.started_runs import RUN, sweep_command, underway

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


def test_of_a_killed_controller_nothing_runs_on_and_resume_completes_the_run(start, model, tasks, tmp_path):
    folder = tmp_path / "reports" / RUN
    arguments = ("-n", "0", "--tasks", str(tasks))
    swept = start(sweep_command(model, *arguments))
    swept.wait_for(underway(folder, 1))
    swept.process.kill()
    swept.end(10)
    assert swept.left() == []  # the engine ends with it
    kept = ledger(folder)
    resumed = start(sweep_command(model, *arguments, "--resume"))
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    after = ledger(folder)
    assert (len(after), {one["outcome"] for one in after.values()}) == (TRIALS, {"solved"})
    assert kept.items() <= after.items()
    assert no_container_is_left(RUN)
