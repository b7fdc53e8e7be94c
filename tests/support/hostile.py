"""What others may put into a folder in the place of a file, and what reading it costs."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from support import REPOSITORY

FLOOR = 128 << 20
"""Bytes that reading any file may take; above it, memory is promised to stay under 10 times the file."""
_LIMIT = 16 << 30


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

    A `UsageError` is what it says; another exception fails with its traceback.
    """
    program = f"""
import re, resource, sys, time
from pathlib import Path
from capvec.errors import UsageError
{imports}
path = Path(sys.argv[1])
def status(name):
    return int(re.search(name + r":\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) << 10
Path("/proc/self/clear_refs").write_text("5")  # forgets the peak of before
resource.setrlimit(resource.RLIMIT_AS, ({_LIMIT}, {_LIMIT}))
before, start, said = status("VmRSS"), time.monotonic(), "read"
try:
    value = {expression}
except UsageError as error:
    said = str(error)
print(status("VmHWM") - before, time.monotonic() - start, said.encode("unicode_escape").decode())
"""
    done = subprocess.run(
        [sys.executable, "-c", program, path],
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
        cwd=REPOSITORY,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    memory, seconds, said = done.stdout.strip().split(" ", 2)
    return Cost(said, int(memory), float(seconds))


def assert_cheap(cost: Cost, path: Path) -> None:
    """Under 10 times the file, or under the floor."""
    allowed = max(FLOOR, 10 * path.stat().st_size)
    assert cost.memory < allowed, f"{cost.memory:,} bytes of memory for {path.stat().st_size:,}: {cost.said[:200]}"
