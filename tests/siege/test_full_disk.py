"""A disk that fills up in the midst of a sweep."""

from __future__ import annotations

import json
import os

import pytest
from support.disks import fill, make_read_only, small_disk
from support.real_sweeps import ledger, no_container_is_left
from support.started_sweeps import start_sweep, write_given

pytestmark = pytest.mark.siege

FILL = """
import os
from pathlib import Path

def pytest_runtest_logreport(report):
    if hasattr(report, "capvec") and not Path("ballast").exists() and "PYTEST_XDIST_WORKER" not in os.environ:
        free = os.statvfs(".")
        with open("ballast", "wb", buffering=0) as file:
            for _ in range(free.f_bavail):
                file.write(bytes(free.f_frsize))
"""


@pytest.mark.parametrize("workers", ["0", pytest.param("2", marks=pytest.mark.slow)])
def test_a_sweep_whose_disk_fills_up_stops_with_one_sentence_and_is_resumed_when_there_is_room(tmp_path, workers):
    given = write_given(tmp_path, slow_s=0)
    with small_disk(tmp_path / "disk", "8m") as disk:
        (disk / "filler.py").write_text(FILL)
        arguments = ("--attempts", "3", "-n", workers)
        swept = start_sweep(given, disk, *arguments, "-p", "filler")
        said, _ = swept.communicate(timeout=300)
        assert swept.returncode == pytest.ExitCode.TESTS_FAILED, said
        assert "Traceback" not in said
        assert said.count("NOT RUN") >= 1
        assert "No report: " in said
        assert "cannot be written (No space left on device): make room on that disk and try again" in said
        kept = ledger(disk / "reports" / "r")
        assert len(kept) < 12
        assert {entry["outcome"] for entry in kept.values()} <= {"solved"}
        (disk / "ballast").unlink()
        resumed = start_sweep(given, disk, *arguments, "--resume")
        said, _ = resumed.communicate(timeout=500)
        assert resumed.returncode == pytest.ExitCode.OK, said
        assert len(ledger(disk / "reports" / "r")) == 12
        assert kept.items() <= ledger(disk / "reports" / "r").items()
        assert json.loads((disk / "reports" / "r" / "summary.json").read_text())["missing_trials"] == []
    assert no_container_is_left()


@pytest.mark.parametrize("how", ["full", "read-only"])
def test_a_sweep_on_a_disk_without_room_is_one_sentence_before_anything_starts(tmp_path, how):
    given = write_given(tmp_path, slow_s=0)
    with small_disk(tmp_path / "disk") as disk:
        fill(disk) if how == "full" else make_read_only(disk)
        swept = start_sweep(given, disk)
        said, _ = swept.communicate(timeout=120)
        assert swept.returncode == pytest.ExitCode.TESTS_FAILED, said
        assert said.count("ERROR: capvec cannot start the sweep: ") == 1
        assert "cannot be written" in said
        assert "Traceback" not in said
        assert "starting the engine" not in said


def test_a_sweep_in_a_folder_that_an_ascii_locale_cannot_say(tmp_path, monkeypatch):
    given = write_given(tmp_path, slow_s=0)
    for name, value in {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii"}.items():
        monkeypatch.setenv(name, value)
    there = tmp_path / "größe-日本"
    there.mkdir()
    (given / "tasks").rename(there / "täsks")
    for arguments in ((), ("--resume", "-n", "2"), ("--plan",)):
        run = ("--run", "läuft") if "--plan" not in arguments else ()
        swept = start_sweep(given, there, "--tasks", os.fsdecode(os.fsencode(there / "täsks")), *run, *arguments)
        said, _ = swept.communicate(timeout=300)
        assert swept.returncode == pytest.ExitCode.OK, said
        assert said.isascii()
        assert "Traceback" not in said
