"""Start the engine as a process of its own, and be sure that it ends with us."""

from __future__ import annotations

import json
import os
import secrets
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from capvec.engines.client import EngineClient
from capvec.engines.protocol import TOKEN_VARIABLE, ModelSource
from capvec.errors import EngineUnavailable, UsageError

READY_S = 1800.0
"""Loading a large model from a hub takes its time; a process that died is noticed at once."""


@dataclass(frozen=True)
class RunningEngine:
    """Where the engine listens."""

    url: str
    token: str
    pid: int


@contextmanager
def start_engine(source: ModelSource, *, log_path: Path, port: int = 0) -> Iterator[RunningEngine]:
    """An engine that serves `source`, stopped when the context ends.

    Args:
        source: the model.
        log_path: takes what the engine prints.
        port: 0 takes a free one.

    Raises:
        UsageError: the model cannot be loaded.
        EngineUnavailable: the process ended or did not get ready in time.
    """
    token = os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
    command = [
        sys.executable,
        "-m",
        "capvec.engines.transformers",
        "--model",
        source.path_or_id,
        "--label",
        source.name,
    ]
    command += ["--context-length", str(source.context_length)] if source.context_length else []
    command += ["--defaults", json.dumps(source.defaults.to_json()), "--port", str(port)]
    # OpenMP's threads wait for each other many times a token. By default they spin, and where anything else wants the
    # cores (trials do), the spinning keeps from running what is waited for: tests/benchmarks/wait_policy.py.
    environment = {"OMP_WAIT_POLICY": "PASSIVE"} | os.environ | {TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1"}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield RunningEngine(_wait_ready(process, log_path), token, process.pid)
    finally:
        _stop(process)


@contextmanager
def client_of(source: ModelSource, log_path: Path) -> Iterator[EngineClient]:
    """A client of an engine that serves `source` and ends with the context; raises as `start_engine` does."""
    with start_engine(source, log_path=log_path) as running, EngineClient(running.url, running.token) as client:
        yield client


def _wait_ready(process: subprocess.Popen[bytes], log_path: Path) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if select.select([process.stdout], [], [], 1.0)[0]:
            line = process.stdout.readline()
            if not line:
                raise EngineUnavailable(
                    f"the engine ended with exit code {process.wait()} before it was ready; its log ends in:\n"
                    + _tail(log_path)
                )
            answer = json.loads(line)
            if "error" in answer:
                raise UsageError(answer["error"])
            return str(answer["url"])
    raise EngineUnavailable(f"the engine was not ready after {READY_S:.0f} s; its log ends in:\n" + _tail(log_path))


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Closing standard input asks it to end; it is killed when it does not."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
