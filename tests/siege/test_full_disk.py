"""Disks that cannot be written: one sentence, and nothing is started."""

from __future__ import annotations

import pytest
from support.disks import fill, make_read_only, small_disk
from support.real_sweeps import REWARD, write_task
from support.started_runs import RUN, capvec_command, sweep_command

pytestmark = pytest.mark.siege


@pytest.fixture
def tasks(tmp_path):
    write_task(tmp_path / "tasks" / "one", REWARD.format(1))
    return tmp_path / "tasks"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        yield disk


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_what_cannot_be_written_is_one_sentence_before_anything_starts(start, model, tasks, disk, how):
    fill(disk) if how == "full" else make_read_only(disk)
    collect = ("collect", "--model", str(model / "tiny"), "--tasks", str(tasks), "--out", RUN)
    both = [start(sweep_command(model, "--tasks", str(tasks)), disk), start(capvec_command(*collect), disk)]
    codes = [process.end(120) for process in both]
    assert codes == [pytest.ExitCode.TESTS_FAILED, 2]
    assert both[0].said.count("ERROR: capvec cannot start the sweep: ") == 1
    assert all(process.said.count("cannot be written") == 1 for process in both)
    assert not any("starting the engine" in process.said for process in both)
