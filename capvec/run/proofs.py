"""Proofs of tasks, kept between runs in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path

from capvec.cache import cache_root
from capvec.errors import UsageError
from capvec.run.checked import TaskCheck
from capvec.run.control import Scale
from capvec.task_records import Capabilities, Task

PACKAGE = Path(__file__).resolve().parent.parent
_DECIDE = ("*.py", "tasks/*.py", "sandbox/*.py", "run/*.py")
"""The code that a check consists of: what reads a task, makes its containers, runs it and judges it."""


@cache
def code_digest(package: Path = PACKAGE) -> str:
    """The SHA-256 of the code of capvec that decides how a check ends, whatever its version is called.

    Args:
        package: capvec's folder.
    """
    digest = hashlib.sha256()
    for file in sorted(file for pattern in _DECIDE for file in package.glob(pattern)):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(package).as_posix()} {len(content)}\0".encode() + content)
    return digest.hexdigest()


@dataclass(frozen=True)
class Proofs:
    """The proofs that hold where tasks are judged by this scale, and their containers are allowed this."""

    scale: Scale
    capabilities: Capabilities
    keep_processes: bool = False

    def key(self, task: Task, image: str) -> str:
        """What a proof holds for, as a hash: the task's files and settings, its image, what is allowed, capvec's code.

        Args:
            task: as loaded, with the network that the options allow.
            image: its id.
        """
        settings = {name: value for name, value in task.to_json().items() if name != "path"}
        record = {"capvec": code_digest(), "task": settings, "image": image, **asdict(self)}
        # `default`: metadata may hold a date.
        return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()

    def read(self, task: Task, image: str) -> TaskCheck | None:
        """The check of a task that was fit; None if there was none on this machine."""
        try:
            return TaskCheck.from_json(json.loads(self._path(task, image).read_text(encoding="utf-8")))
        except (OSError, ValueError, UsageError):
            return None

    def keep(self, task: Task, image: str, check: TaskCheck) -> None:
        """Keep the check of a fit task; that of another is not kept, and runs again."""
        if check.problem:
            return
        path = self._path(task, image)
        with suppress(OSError):  # without a cache it is checked again
            path.parent.mkdir(parents=True, exist_ok=True)
            with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
                file.write(json.dumps(check.to_json()) + "\n")
            os.replace(file.name, path)

    def _path(self, task: Task, image: str) -> Path:
        return cache_root() / "checks" / f"{self.key(task, image)}.json"
