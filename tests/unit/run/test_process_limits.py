"""A run that needs more than this process may have is refused at the start, and given what it may have."""

from __future__ import annotations

import os
import resource
import subprocess
import sys

import pytest
from support.real_sweeps import REWARD, write_task

pytestmark = pytest.mark.unit

CAPVEC = (sys.executable, "-m", "capvec.commands.main")
STUDY = (
    sys.executable,
    "-m",
    "pytest",
    "--pyargs",
    "capvec",
    "-p",
    "no:cacheprovider",
    "-m",
    "sweep",
    "--model",
    "pocket",
)


def limited(soft, hard, *command, cwd, kind=resource.RLIMIT_NOFILE):
    """A command with a limit, by default of open files."""
    return subprocess.run(
        command, cwd=cwd, capture_output=True, text=True, check=False,
        preexec_fn=lambda: resource.setrlimit(kind, (soft, hard)),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("command", "said", "code"),
    [
        ((*STUDY, "-n", "2"), "ERROR: -n 2 needs 256 open files", pytest.ExitCode.USAGE_ERROR),
        ((*STUDY, "-n", "0"), "ERROR: -n 0 needs 192 open files", pytest.ExitCode.USAGE_ERROR),
        ((*CAPVEC, "check", "--jobs", "3"), "capvec: --jobs 3 needs 320 open files", 2),
        ((*CAPVEC, "collect", "--model", "pocket", "--jobs", "1"), "capvec: --jobs 1 needs 192 open files", 2),
    ],
    ids=["workers", "one process", "check", "collect"],
)
def test_too_few_open_files_are_one_sentence_before_anything_starts(tmp_path, command, said, code):
    write_task(tmp_path / "tasks" / "one", REWARD.format(1))
    where = ("tasks",) if "check" in command else ("--tasks", "tasks")
    more = ("--out", "out") if "collect" in command else ()
    done = limited(24, 24, *command, *where, *more, cwd=tmp_path)
    assert done.returncode == code, done.stdout + done.stderr
    sentence = f"{said}, and this process may have 24: raise the limit of open files (`ulimit -n`) and try again\n"
    assert sentence in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


@pytest.mark.parametrize(("command", "code"), [(STUDY, pytest.ExitCode.USAGE_ERROR), ((*CAPVEC, "check"), 2)])
def test_too_little_address_space_is_one_sentence_before_anything_starts(tmp_path, command, code):
    """As after `ulimit -v 1500000`, where libraries of linear algebra and the engine end in many ways."""
    write_task(tmp_path / "tasks" / "one", REWARD.format(1))
    where = ("tasks",) if "check" in command else ("--tasks", "tasks")
    done = limited(1_536_000_000, 1_536_000_000, *command, *where, cwd=tmp_path, kind=resource.RLIMIT_AS)
    assert done.returncode == code, done.stdout + done.stderr
    assert "may have 1,536,000,000: raise the limit of memory (`ulimit -v`) and try again\n" in done.stderr
    assert "Traceback" not in done.stdout + done.stderr


def test_what_the_system_allows_is_taken():
    program = (
        "import resource\nfrom capvec.run.process_limits import allow_trials\n"
        "allow_trials(2, '-n 2')\nprint(resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    done = limited(24, 1000, sys.executable, "-c", program, cwd=os.getcwd())
    assert done.stdout == "(256, 1000)\n", done.stderr
