"""Many trials of a model that answers at once: nothing grows, nothing is left, and no trial is an error.

`CAPVEC_SOAK` is the number of trials, 200 without it. The samples are written to a table as they are taken, so that a
soak that is stopped has its figures too: `soak.csv` beside the run, or the file that `CAPVEC_SOAK_CSV` names. Its path
is printed; with `-s`, the progress is printed too.
"""

from __future__ import annotations

import csv
import itertools
import os
import statistics
import subprocess
import sys
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import psutil
import pytest
import safetensors.numpy
from support.dockerd import Dockerd
from support.real_sweeps import REWARD, RUN, ledger, no_container_is_left, write_task
from support.tiny_models import LAYERS, WIDTH, save_tiny

pytestmark = [pytest.mark.siege, pytest.mark.slow]

TRIALS = int(os.environ.get("CAPVEC_SOAK", "200"))
WORKERS = 4
EVERY_S = 2.0
GROWTH = 1.15
"""Most that the resident memory of a process may grow from the second fifth of its samples to the last."""
SLACK_MB, SLACK_FDS, SLACK_THREADS = 32, 8, 4


@dataclass(frozen=True)
class Sample:
    """What one process has at one time."""

    seconds: float
    pid: int
    command: str
    rss_mb: float
    fds: int
    threads: int
    trials: int
    """That have ended so far."""


def sampled(process: psutil.Process, began: float, trials: int) -> Sample | None:
    try:
        with process.oneshot():
            seconds, command = round(time.monotonic() - began, 1), " ".join(process.cmdline())[:80]
            return Sample(
                seconds, process.pid, command, process.memory_info().rss / 2**20, process.num_fds(),
                process.num_threads(), trials,
            )  # fmt: skip
    except psutil.NoSuchProcess:
        return None


def run(arguments: list[str], folder: Path, daemon: Dockerd, table: Path) -> tuple[int, list[Sample], int]:
    """The exit code of a session, samples of all its processes and of Docker's, and the most containers at a time.

    The table gets each sample at once, with the containers that are there.
    """
    began, samples, most = time.monotonic(), [], 0
    with ExitStack() as stack:
        file = stack.enter_context(table.open("w", newline="", buffering=1))
        rows = csv.writer(file)
        rows.writerow([*Sample.__annotations__, "containers"])
        said = stack.enter_context((folder / "said.txt").open("wb"))
        client = stack.enter_context(daemon.client())
        session = stack.enter_context(subprocess.Popen(arguments, cwd=folder, stdout=said))
        top, docker = psutil.Process(session.pid), psutil.Process(daemon.pid)
        for look in itertools.count():
            if session.poll() is not None:
                break
            time.sleep(EVERY_S)
            try:
                alive = [top, docker, *top.children(recursive=True)]
            except psutil.NoSuchProcess:
                continue
            trials, containers = done(folder), len(client.api.containers(all=True))
            taken = [sample for process in alive if (sample := sampled(process, began, trials))]
            rows.writerows([*vars(sample).values(), containers] for sample in taken)
            samples += taken
            most = max(most, containers)
            if look % 30 == 0:
                print(f"{time.monotonic() - began:.0f} s: {trials} trials, at most {most} containers", flush=True)
    return session.returncode, samples, most


def done(folder: Path) -> int:
    """How many trials have an outcome so far."""
    path = folder / "reports" / RUN / "trials.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def left_behind(daemon) -> dict[str, int]:
    """What a Docker holds that a trial could leave."""
    with daemon.client() as client:
        return {
            "containers": len(client.containers.list(all=True)),
            "networks": len(client.networks.list()),
            "volumes": len(client.volumes.list()),
        }


def test_nothing_grows_over_many_trials(dockerd, tmp_path, record_property):
    save_tiny(tmp_path / "tiny", "llama")
    for number in range(10):
        write_task(tmp_path / "tasks" / f"task-{number}", REWARD.format(number % 2))
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    ambient = np.full(LAYERS, 10, np.float32)
    safetensors.numpy.save_file({"directions": vectors, "ambient_norm": ambient}, tmp_path / "dir.safetensors")
    table = Path(os.environ.get("CAPVEC_SOAK_CSV", tmp_path / "soak.csv"))
    print(f"samples: {table}", flush=True)
    before = left_behind(dockerd)
    began = time.monotonic()
    code, samples, most = run(
        [
            *(sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-q", "-m", "sweep"),
            *("--run", RUN, "--model", "tiny", "--direction", "dir.safetensors", "--layer", "1", "--alpha", "4"),
            *("--tasks", "tasks", "--no-check", "--max-steps", "2", "--max-tokens", "6", "-n", str(WORKERS)),
            *("--attempts", str(TRIALS // 20)),
        ],
        tmp_path,
        dockerd,
        table,
    )
    seconds = time.monotonic() - began
    outcomes = ledger(tmp_path / "reports" / RUN).values()
    print(f"{len(outcomes)} trials in {seconds:.0f} s, at most {most} containers; {table}")
    record_property("trials", len(outcomes))
    record_property("seconds", round(seconds))
    assert code == 0, (tmp_path / "said.txt").read_text()[-2000:]
    assert len(outcomes) == TRIALS // 20 * 20
    assert [one["error"] for one in outcomes if one["outcome"] == "error"] == []
    for pid in {sample.pid for sample in samples}:
        own = [sample for sample in samples if sample.pid == pid and 0 < sample.trials < len(outcomes)]
        if len(own) < 20:
            continue  # no process of all trials
        fifth = len(own) // 5
        early, late = own[fifth : 2 * fifth], own[-fifth:]
        grown = {
            name: (
                statistics.median(getattr(one, name) for one in early),
                statistics.median(getattr(one, name) for one in late),
            )
            for name in ("rss_mb", "fds", "threads")
        }
        print(f"  {own[0].command[-60:]}: " + ", ".join(f"{name} {a:.0f} to {b:.0f}" for name, (a, b) in grown.items()))
        assert grown["rss_mb"][1] < grown["rss_mb"][0] * GROWTH + SLACK_MB
        assert grown["fds"][1] < grown["fds"][0] + SLACK_FDS
        assert grown["threads"][1] < grown["threads"][0] + SLACK_THREADS
    assert most <= 5 * WORKERS  # with those of the trial before and of the next one
    assert left_behind(dockerd) == before
    assert no_container_is_left()
