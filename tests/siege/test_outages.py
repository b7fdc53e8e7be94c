"""Docker and the engine stopped, killed, restarted and hung under sweeps: nothing is lost, nothing is judged half."""

from __future__ import annotations

import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.numpy
from support.real_sweeps import REWARD, ledger, no_container_is_left, write_task
from support.tiny_models import LAYERS, WIDTH, save_tiny

from capvec.errors import SandboxUnavailable
from capvec.sandbox.docker import DockerProvider
from capvec.task_records import Task

pytestmark = [
    pytest.mark.siege,
    # The SDK leaves a socket open where nothing listens.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

TASKS = ("one", "two", "three")
TRIALS = 2 * len(TASKS)
IMAGE = "debian:bookworm-slim"
SLOW = "sleep 2\n"


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A model, a direction and tasks whose verifiers take a while."""
    root = tmp_path_factory.mktemp("given")
    save_tiny(root / "tiny", "llama")
    for name in TASKS:
        write_task(root / "tasks" / name, SLOW + REWARD.format(1))
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    ambient = np.full(LAYERS, 10, np.float32)
    safetensors.numpy.save_file({"directions": vectors, "ambient_norm": ambient}, root / "dir.safetensors")
    return root


@pytest.fixture(name="second")
def second_docker(dockerd):
    """The daemon to break, with the image of the tasks."""
    with dockerd.client() as client:
        present = client.images.list(name=IMAGE)
    if not present:
        dockerd.load(IMAGE)
    yield dockerd
    gc.collect()  # while the warning of what the SDK leaves is ignored


class Sweep:
    """A sweep in a process of its own."""

    def __init__(self, given: Path, root: Path, *arguments: str) -> None:
        self.folder = root / "reports" / "outage"
        command = [
            sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep",
            "--run", "outage", "--model", str(given / "tiny"), "--direction", str(given / "dir.safetensors"),
            "--layer", "1", "--tasks", str(given / "tasks"), "--max-steps", "2", "--max-tokens", "4", "--no-check",
            *arguments,
        ]  # fmt: skip
        self.process = subprocess.Popen(
            command, cwd=root, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        self.said = ""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            self.said += line

    def wait_for(self, what, timeout_s: float = 240) -> None:
        """Wait until something is true of the sweep."""
        deadline = time.monotonic() + timeout_s
        while not what():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.1)

    def recorded(self) -> int:
        """How many trials are on record."""
        return len(ledger(self.folder)) if (self.folder / "trials.jsonl").exists() else 0

    def end(self, timeout_s: float = 240) -> int:
        """Wait for the end. Returns the exit code."""
        code = self.process.wait(timeout_s)
        self._reader.join(10)
        assert "Traceback" not in self.said, self.said
        return code

    def engine(self) -> psutil.Process:
        """The engine's process."""
        children = psutil.Process(self.process.pid).children(recursive=True)
        return next(child for child in children if "capvec.engines.transformers" in child.cmdline())


@pytest.fixture
def sweep(given, tmp_path):
    started = []

    def start(*arguments: str) -> Sweep:
        started.append(Sweep(given, tmp_path, *arguments))
        return started[-1]

    yield start
    for one in started:
        with one.process:
            if one.process.poll() is None:
                os.killpg(one.process.pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("fault", ["stop", "kill", "restart"])
def test_a_short_outage_of_docker_costs_no_trial(second, sweep, fault) -> None:
    run = sweep("-n", "2")
    run.wait_for(lambda: run.recorded() >= 1)
    getattr(second, fault)()
    if fault != "restart":
        time.sleep(8)
        second.start()
    assert run.end() == 0, run.said
    outcomes = ledger(run.folder)
    assert len(outcomes) == TRIALS
    assert {one["outcome"] for one in outcomes.values()} == {"solved"}
    lost = [one for outcome in outcomes.values() for one in outcome["lost"]]
    assert 1 <= len(lost) <= 4  # those that ran, and those that were due
    assert len((run.folder / "trials.jsonl").read_text().splitlines()) == TRIALS
    if fault != "restart":
        assert {one["away"] for one in lost} == {"Docker"}
        assert "Docker has not answered for" in run.said
        assert "Docker answers again" in run.said
    assert no_container_is_left("outage")


@pytest.mark.slow
def test_a_docker_that_stays_away_stops_the_sweep_and_resume_completes_it(second, sweep) -> None:
    run = sweep("-n", "2", "--max-outage", "5")
    run.wait_for(lambda: run.recorded() >= 1)
    second.stop()
    assert run.end() == 1, run.said
    outcomes = ledger(run.folder)
    valid = {name for name, one in outcomes.items() if one["outcome"] != "error"}
    assert {one["away"] for name, one in outcomes.items() if name not in valid} == {"Docker"}
    assert len(outcomes) < TRIALS
    assert "Docker did not come back within 5 s" in run.said
    assert "--run outage --resume" in run.said
    assert "NOT RUN" in run.said
    assert json.loads((run.folder / "summary.json").read_text())["stopped"]
    second.start()
    again = sweep("-n", "2", "--resume")
    assert again.end() == 0, again.said
    after = ledger(run.folder)
    assert len(after) == TRIALS
    assert {name: after[name] for name in valid} == {name: outcomes[name] for name in valid}
    assert no_container_is_left("outage")


@pytest.mark.slow
@pytest.mark.usefixtures("second")
def test_an_engine_that_hangs_is_said_and_goes_on(sweep) -> None:
    run = sweep("-n", "2")
    run.wait_for(lambda: run.recorded() >= 1)
    engine = run.engine()
    engine.suspend()
    run.wait_for(lambda: "the engine has not answered for" in run.said, 60)
    engine.resume()
    assert run.end() == 0, run.said
    assert "the engine answers again" in run.said
    assert not any(one["lost"] for one in ledger(run.folder).values())


@pytest.fixture
def task(tmp_path, second):
    (tmp_path / "environment").mkdir()
    (tmp_path / "environment" / "Dockerfile").write_text("FROM debian:bookworm-slim\nWORKDIR /app\n")
    task = Task("plain", tmp_path, "do it", "0")
    assert second.answers()
    DockerProvider().prepare(task)
    return task


@pytest.mark.parametrize("fault", ["kill", "stop"])
def test_a_trial_whose_container_a_restart_of_docker_ended_is_not_judged(second, task, fault) -> None:
    provider, judged = DockerProvider(), []

    def trial() -> None:
        with provider.open(task, run="outage", trial="t") as sandbox:
            sandbox.run("echo kept > /app/file", timeout_s=10)
            getattr(second, fault)()
            with pytest.raises(SandboxUnavailable):
                provider.check()
            second.start()
            provider.check()
            # The container can be started again, with its files and without its processes: half a trial.
            judged.append(sandbox.run("cat /app/file", timeout_s=10).output)

    with pytest.raises(SandboxUnavailable, match="Docker was restarted"):
        trial()
    assert judged == ["kept\n"]
    provider.clear(run="outage", trial="t")
    assert no_container_is_left("outage")
