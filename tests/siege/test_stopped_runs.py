"""Ctrl-C once and many times, SIGTERM and SIGHUP, to the controller alone and to all of a terminal's processes."""

from __future__ import annotations

import json
import signal
import time

import pytest
from support.real_sweeps import REWARD, containers, ledger, no_container_is_left, write_task
from support.recorded_run import report_texts, write_recorded
from support.started_runs import QUICK, RUN, capvec_command, recorded, sweep_command, underway

from capvec.sandbox.reaper import TRIAL_LABEL

pytestmark = pytest.mark.siege

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
slow = pytest.mark.slow


@pytest.fixture
def tasks(tmp_path):
    """An easy task, and one whose verifier takes longer than any test."""
    return write_tasks(tmp_path / "tasks", 100)


def write_tasks(folder, seconds):
    write_task(folder / "easy", REWARD.format(1))
    write_task(folder / "slow", f"sleep {seconds}\n{REWARD.format(1)}")
    return folder


@pytest.mark.parametrize(
    ("number", "times", "everyone", "workers"),
    [
        pytest.param(INT, 2, True, "2", id="twice Ctrl-C"),
        pytest.param(INT, 1, True, "2", id="Ctrl-C", marks=slow),
        pytest.param(INT, 20, True, "2", id="Ctrl-C held down", marks=slow),
        pytest.param(INT, 2, True, "0", id="twice Ctrl-C in one process", marks=slow),
        pytest.param(INT, 1, False, "2", id="SIGINT to the controller", marks=slow),
        pytest.param(TERM, 1, False, "2", id="SIGTERM to the controller", marks=slow),
        pytest.param(TERM, 5, True, "2", id="SIGTERM to all", marks=slow),
        pytest.param(TERM, 1, False, "0", id="SIGTERM to one process", marks=slow),
        pytest.param(HUP, 1, True, "2", id="SIGHUP", marks=slow),
    ],
)
def test_a_stopped_sweep_keeps_what_it_measured_reports_it_and_leaves_nothing_else(
    start, model, tasks, tmp_path, number, times, everyone, workers
):
    folder = tmp_path / "reports" / RUN
    arguments = ("-n", workers, "--tasks", str(tasks))
    swept = start(sweep_command(model, *arguments))
    swept.wait_for(underway(folder, 2))
    swept.stop(number, times, everyone=everyone)
    assert swept.end(90) == pytest.ExitCode.INTERRUPTED, swept.said
    assert "Interrupted: 2 of 4 trials recorded; NOT RUN: slow-" in swept.said
    assert "**Status:** Interrupted: 2 of 4 trials recorded; " in (folder / "RESULTS.md").read_text()
    assert json.loads((folder / "summary.json").read_text())["interrupted"] is True
    assert swept.left() == []
    assert no_container_is_left(RUN)


def suspend(process, run, times, seconds):
    """Stop a process and continue it some seconds later, each time when its first trial is in a sandbox that is new."""
    process.wait_for(lambda: bool(containers(run)))
    *_, oldest = containers(run)
    trial, seen = oldest["Labels"][TRIAL_LABEL], set()

    def sandboxes():
        """Their names, without those of what acts as root beside them, and of trials whose turn has not come."""
        names = (one["Names"][0] for one in containers(run) if one["Labels"][TRIAL_LABEL] == trial)
        return {"-".join(name.split("-")[:2]) for name in names}

    for _ in range(times):
        process.wait_for(lambda: bool(sandboxes() - seen))  # noqa: B023 (called here)
        seen |= sandboxes()
        process.stop(signal.SIGSTOP)
        time.sleep(seconds)
        process.stop(signal.SIGCONT)


@pytest.mark.parametrize("command", ["sweep", pytest.param("collect", marks=slow)])
def test_a_trial_during_which_its_process_is_suspended_begins_anew_time_and_again(start, model, tmp_path, command):
    """Each time in the container of a new try, and for longer than its commands may take."""
    write_task(tmp_path / "tasks" / "slow", f"sleep 3\n{REWARD.format(1)}")
    tasks = ("--tasks", str(tmp_path / "tasks"))
    if command == "sweep":
        folder, process = tmp_path / "reports" / RUN, start(sweep_command(model, "-n", "0", *tasks))
    else:
        options = ("--model", str(model / "tiny"), *tasks, *QUICK, "--out", RUN)
        folder, process = tmp_path / RUN, start(capvec_command("collect", *options))
    suspend(process, RUN, 2, 4)
    assert process.end() == 0, process.said
    trials = ledger(folder).values()
    assert {trial["outcome"] for trial in trials} == {"solved"}
    lost = [one["error"] for trial in trials for one in trial["lost"]]
    assert len(lost) == 2
    assert all(error.startswith("ProcessStopped: ") for error in lost)


@slow
def test_a_check_during_which_its_process_is_suspended_begins_anew(start, tmp_path):
    """Its verifier may take 5 s, and its process stands still for 8."""
    task = tmp_path / "tasks" / "slow"
    write_task(task, f"sleep 3\n{REWARD.format('$(ls /app | grep -c done)')}")
    (task / "solution").mkdir()
    (task / "solution" / "solve.sh").write_text("touch /app/done\n")
    (task / "task.toml").write_text((task / "task.toml").read_text() + "[verifier]\ntimeout_sec = 5\n")
    process = start(capvec_command("check", str(tmp_path / "tasks")))
    suspend(process, f"check-{process.process.pid}", 2, 8)
    assert process.end() == 0, process.said
    assert "1 of 1 task proved" in process.said


@pytest.mark.slow
def test_a_stopped_sweep_is_resumed(start, model, tmp_path):
    folder, tasks = tmp_path / "reports" / RUN, write_tasks(tmp_path / "tasks", 20)
    arguments = ("-n", "2", "--tasks", str(tasks))
    swept = start(sweep_command(model, *arguments))
    swept.wait_for(underway(folder, 1))
    swept.stop(INT, 2)
    assert swept.end(60) == pytest.ExitCode.INTERRUPTED, swept.said
    kept = ledger(folder)
    assert len(kept) < 4
    resumed = start(sweep_command(model, *arguments, "--resume"))
    assert resumed.end() == pytest.ExitCode.OK, resumed.said
    assert {one["outcome"] for one in ledger(folder).values()} == {"solved"}
    assert len(ledger(folder)) == 4
    assert kept.items() <= ledger(folder).items()
    assert no_container_is_left(RUN)


@slow
@pytest.mark.parametrize("number", [INT, TERM])
def test_a_sweep_that_is_stopped_before_its_first_trial_leaves_nothing(start, model, tasks, tmp_path, number):
    swept = start(sweep_command(model, "-n", "2", "--tasks", str(tasks)))
    swept.wait_for(lambda: "starting the engine" in swept.said)
    swept.stop(number, 2)
    assert swept.end(60) == pytest.ExitCode.INTERRUPTED, swept.said
    assert not (tmp_path / "reports" / RUN / "provenance.json").exists()
    assert swept.left() == []
    assert no_container_is_left(RUN)


@pytest.mark.parametrize(
    ("number", "times"), [pytest.param(INT, 2, marks=slow), (TERM, 1), pytest.param(HUP, 1, marks=slow)]
)
def test_a_stopped_collection_reports_its_traces_and_leaves_nothing_else(start, model, tasks, tmp_path, number, times):
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--jobs", "2", "--out", RUN)
    folder = tmp_path / RUN
    process = start(capvec_command("collect", *options))
    process.wait_for(underway(folder, 1))
    process.stop(number, times)
    assert process.end(60) == 128 + number, process.said
    assert f"stopped after 1 trial of 2: {signal.Signals(number).name}, so the run stops" in process.said
    assert "1 of 2 trials are on record" in (folder / "BASELINE.md").read_text()
    assert list(ledger(folder)) == ["easy-baseline-t1"]
    assert process.left() == []
    assert no_container_is_left(RUN)


@pytest.mark.slow
def test_a_stopped_selection_says_that_nothing_is_reported_and_how_to_go_on(start, model, tasks, tmp_path):
    for name in ("easy", "slow"):
        (tasks / name / "task.toml").write_text(
            '[metadata]\nfamily = "easy"\nsplit = "trained"\n[environment]\nnetwork_mode = "no-network"\n'
        )
    options = ("--model", str(model / "tiny"), "--tasks", str(tasks), *QUICK, "--layer", "1", "--run", RUN)
    select = [*capvec_command(), *options, "--out", "chosen.json"]
    select[2] = "capvec.studies.calibration.select"
    process = start(select)
    process.wait_for(underway(tmp_path / "reports" / RUN, 1))
    process.stop(INT, 2)
    assert process.end(60) == 128 + INT, process.said
    assert f"stopped, so nothing is reported or selected; go on with --run {RUN} --resume" in process.said
    assert recorded(tmp_path / "reports" / RUN) >= 1
    assert not (tmp_path / "chosen.json").exists()
    assert process.left() == []
    assert no_container_is_left(RUN)


@slow
@pytest.mark.parametrize("number", [INT, TERM, HUP])
def test_a_report_that_is_stopped_leaves_the_old_files_or_the_new_ones_whole(start, tmp_path, number):
    """Once it takes signals: before that, Python itself says that it was interrupted."""
    folder = write_recorded(tmp_path / "r").folder
    command = capvec_command("report", str(folder))
    assert start(command).end() == 0
    before = report_texts(folder)
    for delay in (0.0, 0.5, 1.0, 1.5):
        process = start(command)
        process.wait_for(lambda: process.takes(TERM), 30)  # noqa: B023 (called here)
        time.sleep(delay)
        if process.process.poll() is None:
            process.stop(number, 3)
        assert process.end(30) in {0, 128 + number}, (delay, process.said)
        assert report_texts(folder) == before
        assert not list(folder.glob(".*.new"))


@pytest.mark.parametrize(
    "arguments",
    [("check", "{tasks}"), ("serve", "--model", "{model}/tiny")],
    ids=["check", "serve"],
)
@pytest.mark.parametrize(("number", "times"), [(INT, 2), (TERM, 1)])
@slow
def test_a_stopped_command_ends_its_engine_and_its_containers(start, model, tasks, arguments, number, times):
    given = [word.replace("{tasks}", str(tasks)).replace("{model}", str(model)) for word in arguments]
    process = start(capvec_command(*given))
    run = f"check-{process.process.pid}"
    process.wait_for(lambda: "serving" in process.said if arguments[0] == "serve" else bool(containers(run)))
    process.stop(number, times)
    assert process.end(60) == 128 + number, process.said
    assert process.left() == []
    assert no_container_is_left(run)
