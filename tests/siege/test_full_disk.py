"""Disks that fill up under a run, and disks that cannot be written: one sentence, and nothing is lost."""

from __future__ import annotations

import json
import shutil

import pytest
from support.disks import fill, make_read_only, small_disk, use_up_inodes
from support.finished_run import write_run
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.started_runs import QUICK, RUN, capvec_command, recorded, sweep_command

from capvec.engines.protocol import EngineInfo

pytestmark = pytest.mark.siege

FULL = "cannot be written (No space left on device): make room on that disk and try again"


@pytest.fixture
def tasks(tmp_path):
    """Two tasks whose trials take a moment."""
    for name in ("one", "two"):
        write_task(tmp_path / "tasks" / name, f"sleep 1\n{REWARD.format(1)}")
    return tmp_path / "tasks"


@pytest.fixture
def disk(tmp_path):
    with small_disk(tmp_path / "disk", "8m") as disk:
        yield disk


@pytest.fixture
def sweep_until(start, model, tasks):
    """Sweeps on a disk of which something is taken away after the first trial, and fails for it."""

    def sweep(disk, take, *arguments):
        swept = start(sweep_command(model, "--tasks", str(tasks), *arguments), disk)
        swept.wait_for(lambda: recorded(disk / "reports" / RUN) >= 1)
        taken = take(disk)
        assert swept.end() == pytest.ExitCode.TESTS_FAILED, swept.said
        return swept, taken

    return sweep


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_sweep_whose_disk_fills_up_stops_and_is_resumed_when_there_is_room(
    start, model, tasks, disk, sweep_until, workers
):
    folder = disk / "reports" / RUN
    arguments = ("--attempts", "3", "-n", workers)
    swept, ballast = sweep_until(disk, fill, *arguments)
    assert "NOT RUN" in swept.said
    assert "No report: " in swept.said
    assert FULL in swept.said
    assert swept.left() == []
    assert no_container_is_left(RUN)
    kept = ledger(folder)
    assert len(kept) < 12
    assert {entry["outcome"] for entry in kept.values()} == {"solved"}
    ballast.unlink()
    resumed = start(sweep_command(model, "--tasks", str(tasks), *arguments, "--resume"), disk)
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    assert len(ledger(folder)) == 12
    assert kept.items() <= ledger(folder).items()
    assert json.loads((folder / "summary.json").read_text())["missing_trials"] == []
    assert no_container_is_left(RUN)


NO_INODES = "remove files there, since that disk can hold no more of them (`df -i`), and try again"


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_sweep_whose_disk_can_hold_no_more_files_stops_and_is_resumed_when_it_can(
    start, model, tasks, tmp_path, sweep_until, workers
):
    with small_disk(tmp_path / "few", "64m", inodes=2000) as disk:
        folder = disk / "reports" / RUN
        arguments = ("--attempts", "3", "-n", workers)
        swept, ballast = sweep_until(disk, use_up_inodes, *arguments)
        assert f"cannot be written (No space left on device): {NO_INODES}" in swept.said
        kept = ledger(folder)
        assert len(kept) < 12
        assert {entry["outcome"] for entry in kept.values()} == {"solved"}
        shutil.rmtree(ballast)
        resumed = start(sweep_command(model, "--tasks", str(tasks), *arguments, "--resume"), disk)
        assert resumed.end() == pytest.ExitCode.OK, resumed.said
        assert len(ledger(folder)) == 12
        assert kept.items() <= ledger(folder).items()
    assert no_container_is_left(RUN)


@pytest.mark.parametrize("leave", [0, 4096, 8192, 16_384])
def test_a_judgement_that_a_full_disk_has_no_room_for_leaves_nothing_in_its_way(start, tmp_path, leave):
    with small_disk(tmp_path / "small") as disk:
        ballast, out = fill(disk, leave), disk / "out"
        command = capvec_command("judge", "baseline=3/10", "steered=5/10", "--out", str(out))
        judged = start(command)
        assert judged.end() == 2
        assert len(judged.said.splitlines()) == 1
        assert FULL in judged.said
        ballast.unlink()
        again = start(command)
        assert again.end() == 0, again.said
        assert (out / "RESULTS.md").stat().st_size


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished sweep."""
    folder = tmp_path_factory.mktemp("reports") / "mine"
    health = EngineInfo("org/model", "abc", "LlamaForCausalLM", 4, 8, 64, "float32", "cpu", "0.1.0", "model.layers")
    write_run(folder, health=health)
    return folder


def exported(start, finished, out):
    """`capvec export`, ended, and its exit code."""
    exporting = start(capvec_command("export", str(finished), "--out", str(out)))
    return exporting, exporting.end()


@pytest.mark.parametrize("leave", [0, 4096, 20_480, 65_536])
def test_an_export_that_a_full_disk_has_no_room_for_leaves_nothing_in_its_way(start, tmp_path, finished, leave):
    with small_disk(tmp_path / "small", "2m") as disk:
        ballast, out = fill(disk, leave), disk / "out"
        exporting, code = exported(start, finished, out)
        assert (code, len(exporting.said.splitlines())) == (2, 1), exporting.said
        assert FULL in exporting.said
        assert [*out.glob("**/*")] == []
        ballast.unlink()
        exporting, code = exported(start, finished, out)
        assert code == 0, exporting.said
        assert (out / "README.md").stat().st_size


@pytest.mark.parametrize("inodes", [4, 8, 12])
def test_an_export_to_a_disk_that_can_hold_too_few_files_says_so_and_leaves_nothing(start, tmp_path, finished, inodes):
    with small_disk(tmp_path / "few", "8m", inodes=inodes) as disk:
        exporting, code = exported(start, finished, disk / "out")
        assert (code, len(exporting.said.splitlines())) == (2, 1), exporting.said
        assert NO_INODES in exporting.said
        assert [*(disk / "out").glob("**/*")] == []


def test_a_judgement_where_no_file_can_be_made_says_so(start, tmp_path):
    with small_disk(tmp_path / "few", "8m", inodes=10) as disk:
        use_up_inodes(disk)
        judged = start(capvec_command("judge", "baseline=3/10", "steered=5/10", "--out", str(disk / "out")))
        assert judged.end() == 2
        assert judged.said == (f"capvec: {disk / 'out'} cannot be written (No space left on device): {NO_INODES}\n")


@pytest.mark.slow
def test_a_report_that_the_disk_has_no_room_for_is_made_when_there_is(start, model, tasks, disk):
    """Full from the last trial on: every trial is on record, and the exit code says that something is missing."""
    folder = disk / "reports" / RUN
    swept = start(sweep_command(model, "--tasks", str(tasks), "-n", "0"), disk)
    swept.wait_for(lambda: recorded(folder) == 4)
    ballast = fill(disk)
    assert swept.end() == pytest.ExitCode.TESTS_FAILED, swept.said
    assert f"Then: capvec report {folder}" in swept.said
    for path in ballast, folder / "summary.json":
        path.unlink(missing_ok=True)
    made = start(capvec_command("report", str(folder)), disk)
    assert made.end() == 0, made.said
    assert json.loads((folder / "summary.json").read_text())["missing_trials"] == []


@pytest.mark.slow
def test_a_collection_whose_disk_fills_up_stops_and_keeps_its_traces(start, model, tasks, disk):
    folder = disk / RUN
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--attempts", "3", "--out", RUN)
    process = start(capvec_command("collect", *options, "--jobs", "2"), disk)
    process.wait_for(lambda: recorded(folder) >= 1)
    ballast = fill(disk)
    assert process.end() == 2, process.said  # the summary could not be written either
    assert "capvec: stopped after " in process.said
    assert FULL in process.said
    ballast.unlink()
    kept = ledger(folder)
    assert 1 <= len(kept) < 6
    assert {entry["outcome"] for entry in kept.values()} == {"solved"}
    assert all((folder / "trajectories" / f"{trial}.json").stat().st_size for trial in kept)
    assert process.left() == []
    assert no_container_is_left(RUN)


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


@pytest.mark.slow
def test_a_run_whose_disk_became_read_only_is_neither_resumed_nor_changed(start, model, tasks, disk):
    folder = disk / "reports" / RUN
    arguments = ("--tasks", str(tasks), "-n", "0")
    assert start(sweep_command(model, *arguments), disk).end() == pytest.ExitCode.OK
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    make_read_only(disk)
    resumed = start(sweep_command(model, *arguments, "--resume"), disk)
    assert resumed.end(120) == pytest.ExitCode.TESTS_FAILED, resumed.said
    assert resumed.said.count("cannot be written (Read-only file system)") == 1
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.parametrize("workers", ["0", "2"])
def test_a_junit_file_that_a_full_disk_has_no_room_for_is_one_line_after_the_report(
    start, model, tasks, disk, tmp_path, workers
):
    fill(disk)
    arguments = ("--tasks", str(tasks), "-n", workers, f"--junitxml={disk / 'junit.xml'}")
    swept = start(sweep_command(model, *arguments))
    code = swept.end()
    assert code == pytest.ExitCode.TESTS_FAILED, swept.said
    assert swept.said.count(f"{disk / 'junit.xml'} cannot be written (No space left on device)") == 1
    assert "generated xml file" not in swept.said
    assert swept.left() == []
    folder = tmp_path / "reports" / RUN
    assert len(ledger(folder)) == 4
    assert json.loads((folder / "summary.json").read_text())["missing_trials"] == []
