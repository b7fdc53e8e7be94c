"""Two sweeps in one folder: one writes, and the other is refused by its name. Resuming takes what can be compared."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import pytest
from support.real_sweeps import REWARD, RUN, ledger, no_container_is_left, write_task

from capvec.commands.main import main
from capvec.results.lock import LOCK, writer_of

pytestmark = pytest.mark.integration


@pytest.fixture
def start(given, tmp_path):
    """Starts a sweep of an easy task and a slow one, in one folder that all of them share."""
    write_task(tmp_path / "tasks" / "slow", f"sleep 3\n{REWARD.format(0)}")

    def start(*arguments: str) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep",
            "--run", RUN, "--model", str(given / "tiny"), "--direction", str(given / "dir.safetensors"),
            "--layer", "1", "--tasks", f"{given / 'tasks' / 'easy'},{tmp_path / 'tasks' / 'slow'}", "--max-steps", "1",
            "--max-tokens", "4", "--no-check", *arguments,
        ]  # fmt: skip
        return subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    return start


def wait_until(condition, seconds=120):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_of_two_sweeps_that_start_at_once_one_runs_and_a_killed_one_is_resumed(start, tmp_path, capsys):
    folder = tmp_path / "reports" / RUN
    both = [start(), start("-n", "2")]
    wait_until(lambda: any(process.poll() is not None for process in both))
    refused = next(process for process in both if process.poll() is not None)
    writer = next(process for process in both if process is not refused)
    assert refused.communicate()[0].count(f"is being written by process {writer.pid} on ") == 1
    assert refused.returncode == pytest.ExitCode.USAGE_ERROR
    wait_until(lambda: (folder / "trials.jsonl").exists() and (folder / "trials.jsonl").stat().st_size)
    assert main(["report", str(folder)]) == 0
    assert f"{folder} is still being written by process {writer.pid} on " in capsys.readouterr().out
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    assert (folder / LOCK).exists()
    kept = ledger(folder)
    resumed = start("--resume", "-n", "2")
    said, _ = resumed.communicate(timeout=180)
    assert resumed.returncode == pytest.ExitCode.OK, said
    assert len(ledger(folder)) == 4
    assert kept.items() <= ledger(folder).items()
    assert writer_of(folder) is None
    assert no_container_is_left()
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (folder / "engine.log").unlink()
    (folder / "engine.log").symlink_to(victim)
    linked = start("--resume")
    said, _ = linked.communicate(timeout=60)
    assert linked.returncode == pytest.ExitCode.USAGE_ERROR
    assert f"engine.log: leads out of the folder, to {victim}; a run folder holds" in said
    assert victim.read_text() == "precious"
    (folder / "engine.log").unlink()
    (folder / "provenance.json").unlink()
    again = start("--resume")
    said, _ = again.communicate(timeout=60)
    assert again.returncode == pytest.ExitCode.USAGE_ERROR
    assert "no provenance.json, so nothing shows that the trials in trials.jsonl are of this study" in said
    assert "Traceback" not in said
    assert "starting the engine" not in said
