"""Ctrl-C once and many times, SIGTERM and SIGHUP, to the controller alone and to all of a terminal's processes."""

from __future__ import annotations

import os
import signal
import time

import psutil
import pytest
from support.real_sweeps import containers, ledger, no_container_is_left
from support.started_sweeps import descendants, start_command, start_sweep, wait_until, write_given

pytestmark = pytest.mark.siege

INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    return write_given(tmp_path_factory.mktemp("given"))


def stop(process, number: int, times: int, *, everyone: bool) -> tuple[str, list[psutil.Process]]:
    """Send the signals quickly; returns what was said until the end, and the processes that were there."""
    started = descendants(process.pid)
    for _ in range(times):
        (os.killpg if everyone else os.kill)(process.pid, number)
        time.sleep(0.05)
    said, _ = process.communicate(timeout=120)
    return said, started


def ended(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=15)[1]


slow = pytest.mark.slow


@pytest.mark.parametrize(
    ("number", "times", "everyone", "workers"),
    [
        (INT, 8, True, "2"),
        pytest.param(TERM, 1, False, "0"),
        pytest.param(TERM, 1, False, "2", marks=slow),
        pytest.param(HUP, 1, True, "2", marks=slow),
        pytest.param(INT, 1, False, "2", marks=slow),
        pytest.param(INT, 2, True, "0", marks=slow),
        pytest.param(INT, 20, True, "0", marks=slow),
        pytest.param(TERM, 5, True, "2", marks=slow),
    ],
)
def test_a_stopped_sweep_keeps_what_it_measured_reports_it_and_leaves_nothing(
    given, tmp_path, number, times, everyone, workers
):
    folder = tmp_path / "reports" / "r"
    swept = start_sweep(given, tmp_path, "-n", workers)
    wait_until(lambda: (folder / "trials.jsonl").exists() and len(ledger(folder)) >= 2 and bool(containers("r")))
    said, started = stop(swept, number, times, everyone=everyone)
    assert swept.returncode == pytest.ExitCode.INTERRUPTED, said
    assert "Traceback" not in said
    assert "Interrupted: 2 of 4 trials recorded; NOT RUN: slow-" in said
    assert "**Status:** Interrupted: 2 of 4 trials recorded; " in (folder / "RESULTS.md").read_text()
    assert ended(started)
    assert no_container_is_left()


@pytest.mark.parametrize(
    ("number", "times"), [(INT, 10), pytest.param(TERM, 1, marks=slow), pytest.param(HUP, 1, marks=slow)]
)
def test_a_stopped_collection_leaves_its_traces_and_nothing_else(given, tmp_path, number, times):
    options = ("--model", str(given / "tiny"), "--tasks", str(given / "tasks"), "--max-steps", "1", "--max-tokens", "4")
    process = start_command(tmp_path, "collect", *options, "--no-check", "--out", "traces", "--jobs", "2")
    folder = tmp_path / "traces"
    wait_until(lambda: (folder / "trials.jsonl").exists() and len(ledger(folder)) == 1 and bool(containers("traces")))
    said, started = stop(process, number, times, everyone=True)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert len(ledger(folder)) == 1
    assert ended(started)
    assert no_container_is_left("traces")


@pytest.mark.parametrize(
    "arguments", [("check", "{given}/tasks"), ("serve", "--model", "{given}/tiny")], ids=["check", "serve"]
)
@pytest.mark.parametrize(("number", "times"), [(INT, 10), pytest.param(TERM, 1, marks=slow)])
def test_a_stopped_command_ends_its_engine_and_its_containers(given, tmp_path, arguments, number, times):
    process = start_command(tmp_path, *(word.replace("{given}", str(given)) for word in arguments))
    if arguments[0] == "serve":
        assert process.stdout.readline().startswith("serving")
    else:
        wait_until(lambda: bool(containers(f"check-{process.pid}")))
    said, started = stop(process, number, times, everyone=True)
    assert process.returncode == 128 + number, said
    assert "Traceback" not in said
    assert ended(started)
    assert no_container_is_left(f"check-{process.pid}")
