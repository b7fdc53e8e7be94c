"""A log of Inspect as its own library reads it, in a process of its own with bounds on memory and time."""

from __future__ import annotations

import atexit
import json
import os
import select
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.programs import python
from capvec.reading import MIB, size
from capvec.text import one_line
from capvec.traces.document import Archive, Document

LARGEST, _RATIO = 256 * MIB, 50
"""Bytes that what is read of a log may always have as JSON, and times its size that a larger one may."""
_IN_MEMORY = 4
"""Times those bytes that the library may take for them."""
START_S, S_PER_MIB = 120.0, 30.0
"""Seconds for the start of the library and a small log, and for each MiB of a larger one."""


@dataclass(frozen=True)
class InspectSample:
    """A sample of a log, in one of its epochs."""

    id: str
    epoch: int
    error: str | None
    scores: Mapping[str, Any]
    """Scorer → value, of any type that JSON has."""
    choices: int
    """Of the last output."""
    messages: tuple[dict[str, Any], ...]
    offered: Mapping[str, tuple[str, ...]]
    """Id of a reply → the tools that the model had there."""


@dataclass(frozen=True)
class InspectLog:
    """What capvec reads of a log."""

    task: str
    model: str
    status: str
    samples: tuple[InspectSample, ...]


def read_log(document: Document) -> InspectLog:
    """The log of a document.

    Raises:
        UsageError: the library is not installed, or cannot read the log, or not within its bounds.
    """
    kind = "eval" if isinstance(document.value, Archive) else "json"
    answer = LIBRARY.read(document.path, kind, document.name)
    if (missing := answer.get("missing")) is not None:
        raise UsageError(
            f"{document.name}: is a log of Inspect, which is read through Inspect's own library ({missing}); install "
            f"it with `pip install 'capvec[inspect]'`"
        )
    if (reason := answer.get("refused")) is not None:
        raise UsageError(
            f"{document.name}: Inspect's library cannot read this log ({one_line(reason)}); expected a log that is "
            f"complete and no newer than the library: try a newer inspect_ai"
        )
    log = answer["log"]
    samples = tuple(
        InspectSample(
            **{name: one[name] for name in ("id", "epoch", "error", "scores", "choices")},
            messages=tuple(one["messages"]),
            offered={reply: tuple(tools) for reply, tools in one["offered"].items()},
        )
        for one in log["samples"]
    )
    return InspectLog(log["task"], log["model"], log["status"], samples)


class _Library:
    """The program that reads, which is started with the first log, and again after one that ended it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._program: subprocess.Popen[bytes] | None = None

    def read(self, path: Path, kind: str, name: str) -> dict[str, Any]:
        """What the program answers.

        Raises:
            UsageError: the log takes more than it may; `name` says which it is.
        """
        length = path.stat().st_size
        largest, limit_s = max(LARGEST, _RATIO * length), START_S + S_PER_MIB * length / MIB
        asked = {"path": str(path.absolute()), "kind": kind, "largest": largest, "memory": _IN_MEMORY * largest}
        with self._lock:
            if self._program is None:
                self._program = subprocess.Popen(
                    python("capvec.traces.inspect_reader"),
                    env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))},  # as here
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                )  # fmt: skip
            answered = False
            try:
                line = _exchange(self._program, json.dumps(asked).encode() + b"\n", time.monotonic() + limit_s)
                answer = None if line is None else parse_json(line)
                answered = answer is not None
            except (OSError, ValueError):
                answer = None
            finally:
                if not answered:
                    self._close()
        if answer is None or answer.get("beyond"):
            raise UsageError(
                f"{name}: Inspect's library cannot read this log of {size(length)} within {limit_s:.0f} s and "
                f"{size(_IN_MEMORY * largest)} of memory; expected a log that refers to no more than it holds"
            )
        return dict(answer)

    def close(self) -> None:
        """End the program."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._program is not None:
            with self._program as program:
                program.kill()
            self._program = None


def _exchange(program: subprocess.Popen[bytes], question: bytes, deadline: float) -> bytes | None:
    """The line that a program answers with; None if it ends, or says nothing in time."""
    asking, answering = _pipes(program)
    with suppress(BrokenPipeError):
        asking.write(question)
        asking.flush()
    pieces: list[bytes] = []
    while not pieces or not pieces[-1].endswith(b"\n"):
        ready, _, _ = select.select([answering], [], [], max(0.0, deadline - time.monotonic()))
        piece = answering.read1(MIB) if ready else b""  # type: ignore[attr-defined]
        if not piece:
            return None
        pieces.append(piece)
    return b"".join(pieces)


def _pipes(program: subprocess.Popen[bytes]) -> tuple[IO[bytes], IO[bytes]]:
    assert program.stdin is not None
    assert program.stdout is not None
    return program.stdin, program.stdout


LIBRARY = _Library()
"""The one of this process."""
atexit.register(LIBRARY.close)
