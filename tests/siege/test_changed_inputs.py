"""What a sweep was given is changed while it runs, or before it is resumed: no trial counts that had something else."""

from __future__ import annotations

import pytest
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.started_runs import RUN, recorded

pytestmark = pytest.mark.siege

HARD = f"sleep 1\n{REWARD.format(0)}"
EASY = f"sleep 1\n{REWARD.format(1)}"


@pytest.fixture
def tasks(tmp_path):
    for name in ("one", "two"):
        write_task(tmp_path / "tasks" / name, HARD)
    return tmp_path / "tasks"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_verifier_that_is_changed_while_a_sweep_runs_judges_no_trial(sweep, tasks, folder, workers) -> None:
    run = sweep("-n", workers, "--attempts", "3")
    run.wait_for(lambda: recorded(folder) >= 1)
    for name in ("one", "two"):
        (tasks / name / "tests" / "test.sh").write_text(EASY)
    assert run.end() == pytest.ExitCode.TESTS_FAILED, run.said
    outcomes = ledger(folder)
    assert {one["outcome"] for one in outcomes.values()} == {"unsolved", "error"}
    changed = [one["error"] for one in outcomes.values() if one["outcome"] == "error"]
    assert all("are not those that were read at the start" in error for error in changed)
    for name in ("one", "two"):
        (tasks / name / "tests" / "test.sh").write_text(HARD)
    resumed = sweep("-n", workers, "--attempts", "3", "--resume")
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    assert [one["outcome"] for one in ledger(folder).values()] == ["unsolved"] * 12
    assert no_container_is_left(RUN)
