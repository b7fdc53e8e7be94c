"""How commands end: real ones, with real streams that fail."""

import errno
import os
import shlex
import subprocess
import sys

import pytest
from support.recorded_run import write_recorded

from capvec.exits import refused

pytestmark = pytest.mark.unit

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": "ascii", "PYTHONCOERCECLOCALE": "0"}


def capvec(*arguments: object, env=(), **streams: object) -> subprocess.CompletedProcess[bytes]:
    command = [sys.executable, "-m", "capvec.commands.main", *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
    return subprocess.run(command, env=os.environ | dict(env), check=False, **pipes)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run in a folder whose name no ASCII locale can say."""
    return write_recorded(tmp_path_factory.mktemp("größe-日本") / "läuft").folder


@pytest.mark.parametrize("arguments", [["--help"], ["doctor"], ["report", "{run}"], ["report", "nö-such-rün"]])
def test_an_encoding_that_lacks_a_letter_stops_no_command(run, arguments):
    given = [word.replace("{run}", str(run)) for word in arguments]
    plain, poor = capvec(*given), capvec(*given, env=ASCII)
    assert poor.returncode == plain.returncode
    assert b"Traceback" not in poor.stdout + poor.stderr
    assert (poor.stdout + poor.stderr).isascii()


def test_a_report_is_the_same_whatever_the_locale(run):
    capvec("report", run)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    assert capvec("report", run, env=ASCII).returncode == 0
    assert {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()} == before


@pytest.mark.parametrize("buffered", ["", "1"])
@pytest.mark.parametrize("arguments", [["report", "{run}"], ["--help"], ["judge", "--help"], ["--version"]])
def test_an_output_on_a_full_disk_is_one_line_and_exit_code_2(run, arguments, buffered):
    given = [word.replace("{run}", str(run)) for word in arguments]
    with open("/dev/full", "wb") as full:
        done = capvec(*given, stdout=full, env={"PYTHONUNBUFFERED": buffered})
    assert done.returncode == 2
    assert (
        done.stderr == b"capvec: a file or the output: No space left on device; make room on that disk and try again\n"
    )


@pytest.mark.parametrize("closed", ["<&-", ">&-", "<&- >&- 2>&-"])
def test_a_command_whose_streams_are_closed_does_its_work(run, closed):
    report = run / "RESULTS.md"
    before = report.stat().st_mtime_ns
    words = shlex.join([sys.executable, "-m", "capvec.commands.main", "report", str(run)])
    done = subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")
    assert report.stat().st_mtime_ns > before


GREEDY = """
import sys
from capvec.exits import exit_code_of
sys.exit(exit_code_of(lambda: len(bytearray(1 << 33))))
"""


THREADS = """
import sys, threading
from capvec.exits import exit_code_of

def command():
    for _ in range(50):
        threading.Thread(target=threading.Event().wait, daemon=True).start()
    return 0

sys.exit(exit_code_of(command))
"""
UNPRIVILEGED = ("setpriv", "--ruid", "54321", "--euid", "0", "--bounding-set", "-sys_resource,-sys_admin")
"""Starts a program of another user's, whom a limit on processes binds, which may read the files of root."""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process of another user")
@pytest.mark.parametrize("most", [1, 10])
def test_a_limit_on_processes_that_is_met_is_one_line(most):
    """At 1, there is not even the thread that wakes the main one for signals."""
    words = (*UNPRIVILEGED, "prlimit", f"--nproc={most}:{most}", sys.executable, "-c", THREADS)
    done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert done.stderr.startswith("capvec: this process may start no more threads: raise the limit of processes (`uli")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("limit", "command", "said"),
    [("ulimit -f 1", ("-m", "capvec.commands.main", "report", "RUN"),
      b"(File too large): raise the limit of a file's size (`ulimit -f`) and try again\n"),
     ("ulimit -v 4000000", ("-c", GREEDY), b"capvec: this process may have no more memory: give it more (`ulimit")],
    ids=["a file's size", "memory"],
)  # fmt: skip
def test_a_limit_of_the_shell_that_is_met_is_one_line(run, limit, command, said):
    words = shlex.join([sys.executable, *(str(run) if word == "RUN" else word for word in command)])
    done = subprocess.run(["bash", "-c", f"{limit}; {words}"], capture_output=True, check=False, timeout=60)
    assert done.returncode == 2
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_reader_that_leaves_early_is_no_error(run):
    read, write = os.pipe()
    os.close(read)
    done = capvec("report", run, stdout=write)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, b"")


def test_a_refusal_names_the_file_and_the_reason():
    said = refused(OSError(errno.EDQUOT, "Disk quota exceeded", "reports/r"))
    assert said == "reports/r: Disk quota exceeded; make room in your quota and try again"
