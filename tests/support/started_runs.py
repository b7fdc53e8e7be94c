"""Real sweeps and commands as processes of their own, which tests stop, kill, or take the disk or Docker from."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import safetensors.numpy

from support.real_sweeps import containers, ledger
from support.tiny_models import LAYERS, WIDTH, save_tiny

RUN = f"siege-{os.getpid()}"
"""Name of the runs of one process of tests: Docker is asked for their containers, and others test beside it."""
QUICK = ("--max-steps", "1", "--max-tokens", "4", "--no-check")
"""Trials of one short reply, whose tasks have no solution to check."""


def write_model(folder: Path) -> Path:
    """A small model at `tiny` and a direction that fits it at `dir.safetensors`. Returns the folder."""
    save_tiny(folder / "tiny", "llama")
    vectors = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
    ambient = np.full(LAYERS, 10, np.float32)
    safetensors.numpy.save_file({"directions": vectors, "ambient_norm": ambient}, folder / "dir.safetensors")
    return folder


def sweep_command(model: Path, *arguments: str) -> list[str]:
    """`pytest -m sweep --run RUN` with what `write_model` wrote; options given later win."""
    return [
        sys.executable, "-m", "pytest", "--pyargs", "capvec", "-p", "no:cacheprovider", "-m", "sweep", "--run", RUN,
        "--model", str(model / "tiny"), "--direction", str(model / "dir.safetensors"), "--layer", "1", *QUICK,
        *arguments,
    ]  # fmt: skip


def capvec_command(*arguments: str) -> list[str]:
    """`capvec` with these arguments."""
    return [sys.executable, "-m", "capvec.commands.main", *arguments]


class Started:
    """A process in a session of its own, and what it has said so far."""

    def __init__(self, command: list[str], cwd: Path, environ: Mapping[str, str] | None = None) -> None:
        """Start it.

        Args:
            command: program and arguments.
            cwd: its working directory, below which its run folder is.
            environ: variables in addition to those of this process.
        """
        self.process = subprocess.Popen(
            command, cwd=cwd, env=os.environ | dict(environ or {}), stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            stdin=subprocess.DEVNULL, text=True, errors="replace", start_new_session=True,
        )  # fmt: skip
        self.said = ""
        """What it wrote to standard output and error."""
        self._seen: dict[int, psutil.Process] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def wait_for(self, what: Callable[[], bool], timeout_s: float = 240) -> None:
        """Wait until something is so, while the process runs."""
        deadline = time.monotonic() + timeout_s
        while not what():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            self.below()
            time.sleep(0.05)

    def end(self, timeout_s: float = 240) -> int:
        """Wait for its end, which shows no traceback. Returns the exit code as a shell has it."""
        code = self.process.wait(timeout_s)
        self._reader.join(15)  # what it started may hold its output open
        assert "Traceback" not in self.said, self.said
        return code if code >= 0 else 128 - code

    def below(self) -> list[psutil.Process]:
        """The processes that it has started and that run now."""
        try:
            found = psutil.Process(self.process.pid).children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        self._seen |= {one.pid: one for one in found}
        return found

    def engine(self) -> psutil.Process:
        """The engine."""
        return next(one for one in self.below() if "capvec.engines.transformers" in _words(one))

    def workers(self) -> list[psutil.Process]:
        """Those of xdist."""
        return [one for one in self.below() if "exec(eval(sys.stdin.readline()))" in _words(one)]

    def stop(self, number: int, times: int = 1, *, everyone: bool = True) -> None:
        """Send a signal several times, 50 ms apart.

        Args:
            number: of the signal.
            times: how often.
            everyone: to all processes of its session, as a terminal does; else to this process alone.
        """
        self.below()
        for _ in range(times):
            with suppress(ProcessLookupError):  # it has ended
                (os.killpg if everyone else os.kill)(self.process.pid, number)
            time.sleep(0.05)

    def takes(self, number: int) -> bool:
        """Whether it has a handler of its own for a signal by now."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return bool(int(re.findall(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)[0], 16) >> number - 1 & 1)

    def left(self, timeout_s: float = 30) -> list[str]:
        """The commands of what it started that still run after some seconds."""
        deadline = time.monotonic() + timeout_s
        while (running := [one for one in self._seen.values() if _runs(one)]) and time.monotonic() < deadline:
            time.sleep(0.1)
        return [_words(one) for one in running]

    def kill(self) -> None:
        """End it and what it started at once."""
        with self.process:
            if self.process.poll() is None:
                self.below()
                self.process.kill()
            for one in self._seen.values():
                with suppress(psutil.NoSuchProcess):
                    one.kill()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.said += line


def recorded(folder: Path) -> int:
    """How many trials a run has on record."""
    return len(ledger(folder)) if (folder / "trials.jsonl").exists() else 0


def underway(folder: Path, trials: int) -> Callable[[], bool]:
    """Whether a run has so many trials on record, and another in a container."""
    return lambda: recorded(folder) >= trials and bool(containers(folder.name))


def _words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def _runs(process: psutil.Process) -> bool:
    """Whether a process has not ended; one that nobody has waited for has."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False
