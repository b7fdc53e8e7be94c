"""Start an engine as a process that ends with this one."""

from __future__ import annotations

import json
import os
import secrets
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Event

from capvec.engines.client import EngineClient
from capvec.engines.protocol import LOOPBACK, TOKEN_VARIABLE, ModelSource
from capvec.engines.selection import EngineChoice
from capvec.errors import EngineUnavailable, UsageError
from capvec.programs import brief_waits, looked_up, python

READY_S = 1800.0
"""Time for loading a large model from a hub; a process that ends is noticed at once."""


@dataclass(frozen=True)
class RunningEngine:
    """An engine's address and process."""

    url: str
    token: str
    process: subprocess.Popen[bytes]

    @property
    def pid(self) -> int:
        """Of the process."""
        return self.process.pid


@contextmanager
def start_engine(
    source: ModelSource,
    *,
    log_path: Path,
    choice: EngineChoice | None = None,
    host: str = LOOPBACK,
    port: int = 0,
    token: str = "",
    receipts: Path | None = None,
    cancelled: Event | None = None,
) -> Iterator[RunningEngine]:
    """Start an engine that serves `source`; it is stopped when the context ends.

    Args:
        source: the model.
        log_path: file to which the engine's output is appended.
        choice: which engine; transformers if absent.
        host: address to listen on.
        port: TCP port; 0 takes a free one.
        token: bearer token; if empty, that of the environment or a new one.
        receipts: file to which the engine appends a line for each reply of a published config.
        cancelled: set by another thread to end the start.

    Yields:
        The engine, ready for requests.

    Raises:
        UsageError: the model cannot be loaded.
        EngineUnavailable: the process ended, was not ready in time, or the start was cancelled.
    """
    token = token or os.environ.get(TOKEN_VARIABLE) or secrets.token_urlsafe(32)
    choice = choice or EngineChoice()
    command = [*python(f"capvec.engines.{choice.kind}", "--model", source.path_or_id, "--label", source.name)]
    command += ["--args", json.dumps(dict(choice.args))] if choice.args else []
    command += ["--context-length", str(source.context_length)] if source.context_length else []
    command += ["--defaults", json.dumps(source.defaults.to_json()), "--port", str(port)]
    command += ["--host", host] + (["--receipts", str(receipts)] if receipts is not None else [])
    whole = looked_up(lambda: dict(os.environ))
    environment = brief_waits(whole) | whole | {TOKEN_VARIABLE: token, "PYTHONUNBUFFERED": "1"}
    with log_path.open("ab") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, env=environment, start_new_session=True
        )
    try:
        yield RunningEngine(_wait_ready(process, log_path, cancelled or Event()), token, process)
    finally:
        _stop(process)


@contextmanager
def client_of(source: ModelSource, log_path: Path, choice: EngineChoice | None = None) -> Iterator[EngineClient]:
    """A client of an engine that serves `source` and ends with the context; raises as `start_engine` does."""
    with (
        start_engine(source, log_path=log_path, choice=choice) as running,
        EngineClient(running.url, running.token) as client,
    ):
        yield client


def _wait_ready(process: subprocess.Popen[bytes], log_path: Path, cancelled: Event) -> str:
    assert process.stdout is not None
    deadline = time.monotonic() + READY_S
    while time.monotonic() < deadline:
        if cancelled.is_set():
            raise EngineUnavailable("the start of the engine was cancelled")
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
    """Close standard input, which ends the engine; kill it after 10 s, and then what it started and left behind."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.close()
    try:
        process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()


def _tail(path: Path, lines: int = 12) -> str:
    return "\n".join(path.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
