"""Real sweeps as processes of their own, for tests that send them signals or take their disk."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import psutil
import safetensors.numpy

from support.real_sweeps import REWARD, write_task
from support.tiny_models import LAYERS, WIDTH, save_tiny


def write_given(folder: Path, *, slow_s: int = 100) -> Path:
    """A tiny model, a direction that fits it, an easy task, and one whose verifier takes `slow_s` seconds."""
    save_tiny(folder / "tiny", "llama")
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    safetensors.numpy.save_file({"directions": vectors}, folder / "dir.safetensors")
    write_task(folder / "tasks" / "easy", REWARD.format(1))
    write_task(folder / "tasks" / "slow", f"sleep {slow_s}\n{REWARD.format(1)}")
    return folder


def start_sweep(given: Path, cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `pytest -m sweep --run r` in a session of its own; options given later win."""
    command = [
        sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", "r",
        "--model", str(given / "tiny"), "--direction", str(given / "dir.safetensors"), "--layer", "1",
        "--tasks", str(given / "tasks"), "--max-steps", "1", "--max-tokens", "4", "--no-check", *arguments,
    ]  # fmt: skip
    return _start(command, cwd)


def start_command(cwd: Path, *arguments: str) -> subprocess.Popen[str]:
    """Start `capvec` in a session of its own."""
    return _start([sys.executable, "-m", "capvec.commands.main", *arguments], cwd)


def _start(command: list[str], cwd: Path) -> subprocess.Popen[str]:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=cwd, start_new_session=True, **pipes)


def wait_until(condition: Callable[[], bool], seconds: float = 180) -> None:
    """Wait until something is so.

    Raises:
        TimeoutError: it did not come to be.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError
        time.sleep(0.1)


def descendants(pid: int) -> list[psutil.Process]:
    """The processes that a process started, workers and engine among them."""
    return psutil.Process(pid).children(recursive=True)
