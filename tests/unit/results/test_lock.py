"""One writer of a run folder at a time. Processes are real: a lock between threads would prove nothing."""

import os
import platform
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import hostile
from support.recorded_run import write_recorded

from capvec.commands.main import main
from capvec.errors import StorageFault, UsageError
from capvec.results.lock import LOCK, locked, locked_new, writer_of
from capvec.results.run_folder import read_run_folder

pytestmark = pytest.mark.unit

HOLD = """
import sys
from pathlib import Path
from capvec.results.lock import locked
with locked(Path(sys.argv[1]), "--run"):
    print("held", flush=True)
    sys.stdin.read()
"""
MEET = """
import os, sys, time
from pathlib import Path
from capvec.errors import UsageError
from capvec.results.lock import locked
room, processes, rounds = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])

def wait_for(number, what):
    (room / f"{number}.{what}.{os.getpid()}").touch()
    while len(list(room.glob(f"{number}.{what}.*"))) < processes:
        time.sleep(0.001)

for number in range(rounds):
    wait_for(number, "ready")
    try:
        with locked(room / "reports" / str(number), "--run"):
            print(number, "held", flush=True)
            wait_for(number, "done")  # until everyone has tried
    except UsageError as error:
        print(number, "refused:", error, flush=True)
        wait_for(number, "done")
"""


def start(script: str, *arguments: object) -> subprocess.Popen[str]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)], **pipes)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of `r`."""
    process = start(HOLD, tmp_path / "r")
    assert process.stdout.readline() == "held\n"
    with process:
        yield process
        process.stdin.close()


def test_of_processes_that_start_in_the_same_instant_one_writes_and_the_others_name_it(tmp_path):
    processes, rounds = 3, 8
    started = [start(MEET, tmp_path, processes, rounds) for _ in range(processes)]
    said = {process.pid: process.communicate(timeout=60)[0].splitlines() for process in started}
    for number in range(rounds):
        lines = {pid: one for pid, all_of in said.items() for one in all_of if one.startswith(f"{number} ")}
        holders = [pid for pid, line in lines.items() if line.endswith("held")]
        assert len(lines) == processes
        assert len(holders) == 1
        refused = [line for line in lines.values() if "refused" in line]
        assert all(f"is being written by process {holders[0]} on {platform.node()}, since 2" in one for one in refused)


def test_the_second_is_refused_by_name_of_the_first(holder, tmp_path):
    with pytest.raises(UsageError) as refused, locked(tmp_path / "r", "--run"):
        pass
    about = rf"{tmp_path / 'r'} is being written by process {holder.pid} on {platform.node()}, since 20"
    assert str(refused.value).startswith(about)
    assert str(refused.value).endswith(
        "(`-c " + str(tmp_path / "r") + "`): wait until that has ended, or choose another --run"
    )


def test_a_lock_dies_with_its_process(holder, tmp_path):
    os.kill(holder.pid, signal.SIGKILL)
    holder.wait()
    assert (tmp_path / "r" / LOCK).exists()
    assert writer_of(tmp_path / "r") is None
    with locked(tmp_path / "r", "--run"):
        assert writer_of(tmp_path / "r").pid == os.getpid()
    assert not (tmp_path / "r" / LOCK).exists()


def test_a_lock_survives_that_somebody_looks_or_forks_and_ends(holder, tmp_path):
    assert [writer_of(tmp_path / "r").pid for _ in range(3)] == [holder.pid] * 3
    with locked(tmp_path / "own", "--run"):
        subprocess.run([sys.executable, "-c", ""], check=True)
        assert writer_of(tmp_path / "own").pid == os.getpid()


def test_a_folder_that_was_there_stays_and_one_that_was_made_goes_if_it_is_empty(tmp_path):
    (tmp_path / "there").mkdir()
    for folder in (tmp_path / "there", tmp_path / "made" / "deep"):
        with locked(folder, "--out"):
            assert folder.is_dir()
    assert [path.name for path in tmp_path.iterdir()] == ["there"]
    with locked(tmp_path / "made" / "deep", "--out"):
        (tmp_path / "made" / "deep" / "file").touch()
    assert (tmp_path / "made" / "deep" / "file").exists()


def test_a_new_folder_is_one_that_holds_nothing_but_what_a_killed_process_left(tmp_path):
    (tmp_path / LOCK).touch()
    with locked_new(tmp_path, "--out"):
        (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="exists and is not an empty folder"), locked_new(tmp_path, "--out"):
        pass
    with pytest.raises(UsageError, match="not an empty folder"), locked_new(tmp_path / "file", "--out"):
        pass


def test_a_folder_that_cannot_be_made_is_one_sentence(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(StorageFault, match=r"cannot be written \(.*\): "), locked(tmp_path / "file" / "r", "--run"):
        pass
    with pytest.raises(StorageFault, match="cannot be written"), locked(Path("/proc/none/r"), "--run"):
        pass


@pytest.mark.parametrize(
    "command",
    [
        ["collect", "--tasks", "sprint", "--out"],
        ["compute", "--out"],
        ["report", "{run}", "--out"],
        ["bake", "--direction", "{run}/vectors/dir.safetensors", "--layer", "1", "--alpha", "1", "--out"],
    ],
    ids=lambda command: command[0],
)
def test_every_command_that_fills_a_folder_respects_the_lock(holder, tmp_path, command, capsys):
    write_recorded(tmp_path / "run")
    given = [word.replace("{run}", str(tmp_path / "run")) for word in command]
    assert main([*given, str(tmp_path / "r")]) == 2
    said = capsys.readouterr().err
    assert f"is being written by process {holder.pid} on " in said
    assert said.count("\n") == 1


def test_a_report_of_a_run_that_goes_on_says_so_and_is_made(tmp_path, capsys):
    folder = write_recorded(tmp_path / "r").folder
    with start(HOLD, folder) as holder:
        assert holder.stdout.readline() == "held\n"
        assert main(["report", str(folder)]) == 0
        said = capsys.readouterr().out
        assert f"{folder} is still being written by process {holder.pid} on " in said
        assert "this report is of the first 60 of 60 trials" in said
        (folder / "trials.jsonl").write_text("")
        with pytest.raises(UsageError, match=rf"process {holder.pid} on .* no trial has ended yet"):
            read_run_folder(folder)
        (folder / "provenance.json").unlink()
        with pytest.raises(UsageError, match=rf"process {holder.pid} on .* prepares a run there"):
            read_run_folder(folder)
        holder.stdin.close()
    assert not (folder / LOCK).exists()


def _link(path, target):
    path.symlink_to(target)


def _hard_link(path, target):
    path.hardlink_to(target)


def _dangling(path, target):
    path.symlink_to(target.with_name("nothing"))


@pytest.mark.parametrize(
    ("make", "what"), [(_link, "a link"), (_dangling, "a link"), (_hard_link, "another name of a file")]
)
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_is_not_written(tmp_path, make, what):
    folder, target = tmp_path / "r", tmp_path / "precious"
    folder.mkdir()
    target.write_text("precious")
    make(folder / LOCK, target)
    with (
        pytest.raises(UsageError, match=rf"\.lock: is {what}; expected a regular file, .*: remove it"),
        locked(folder, "--run"),
    ):
        pass
    assert target.read_text() == "precious"
    assert not (tmp_path / "nothing").exists()
    assert os.path.lexists(folder / LOCK)
    assert writer_of(folder) is None


@pytest.mark.parametrize("kind", ["fifo", "socket", "link to a device", "link to itself", "folder"])
def test_a_lock_that_is_no_file_is_refused_at_once(tmp_path, kind):
    folder = tmp_path / "r"
    folder.mkdir()
    hostile.put(folder / LOCK, kind)
    with pytest.raises(UsageError, match=r"\.lock: is a"), locked(folder, "--run"):
        pass
    assert writer_of(folder) is None
