"""What others may put into a folder in the place of a file, and what reading it costs."""

from __future__ import annotations

import multiprocessing
import os
import re
import resource
import socket
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

from capvec.errors import UsageError

FLOOR = 128 << 20
"""Bytes that reading any file may take; above it, memory is promised to stay under 10 times the file."""
_LIMIT = 16 << 30
_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    ["torch", "support.hostile", "capvec.directions.direction", "capvec.traces", "capvec.tasks.loader"]
)


def _socket(path: Path) -> None:
    # Bound by its name alone: an address has 107 bytes at most.
    before = Path.cwd()
    os.chdir(path.parent)
    try:
        with socket.socket(socket.AF_UNIX) as opened:
            opened.bind(path.name)
    finally:
        os.chdir(before)


NO_FILES: dict[str, Callable[[Path], object]] = {
    "fifo": os.mkfifo,
    "socket": _socket,
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "link to itself": lambda path: path.symlink_to(path.name),
    "folder": lambda path: path.mkdir(),
}
"""Name → makes it at a path that is free."""


def put(path: Path, name: str) -> None:
    """Put one of `NO_FILES` at a path, in the place of what is there."""
    path.unlink(missing_ok=True)
    NO_FILES[name](path)


@dataclass(frozen=True)
class Cost:
    """What a program said, and what it took beyond what it had after its imports."""

    said: str
    memory: int
    """Bytes of the highest resident set, less that after the imports."""
    seconds: float


def cost_of(imports: str, expression: str, path: Path, timeout_s: float = 60) -> Cost:
    """Evaluate an expression of `path` in a process of its own that may take no more than 16 GiB.

    Each is forked from one process that has imported what takes long. A `UsageError` is what the expression says;
    another exception fails with its traceback.
    """
    ours, theirs = _FORKS.Pipe(duplex=False)
    process = _FORKS.Process(target=_evaluate, args=(imports, expression, path, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        assert ours.poll(timeout_s), f"no end within {timeout_s} s"
        answer = ours.recv()
    except EOFError:
        process.join()
        raise AssertionError(f"the process ended with {process.exitcode}") from None
    finally:
        process.kill()
        process.join()
        ours.close()
    assert isinstance(answer, Cost), answer
    return answer


def _evaluate(imports: str, expression: str, path: Path, answer: Connection) -> None:
    names: dict[str, object] = {"path": path}
    try:
        exec(imports, names)
        Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of before
        resource.setrlimit(resource.RLIMIT_AS, (_LIMIT, _LIMIT))
        before, start, said = _status("VmRSS"), time.monotonic(), "read"
        try:
            value = eval(expression, names)  # noqa: F841 (it counts as long as it is held)
        except UsageError as error:
            said = str(error)
        answer.send(Cost(said, _status("VmHWM") - before, time.monotonic() - start))
    except BaseException:
        answer.send(traceback.format_exc()[-2000:])


def _status(name: str) -> int:
    """Bytes of this process's memory, by its name in `/proc`."""
    found = re.search(name + r":\s+(\d+)", Path("/proc/self/status").read_text())
    assert found is not None
    return int(found[1]) << 10


def assert_cheap(cost: Cost, path: Path) -> None:
    """Under 10 times the file, or under the floor."""
    allowed = max(FLOOR, 10 * path.stat().st_size)
    assert cost.memory < allowed, f"{cost.memory:,} bytes of memory for {path.stat().st_size:,}: {cost.said[:200]}"
