"""Proofs of tasks, kept between runs in the user's cache."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

from capvec import __version__
from capvec.cache import cache_root
from capvec.errors import UsageError
from capvec.records import Task
from capvec.run.check import TaskCheck
from capvec.run.control import Scale


def proof_key(task: Task, image: str, scale: Scale) -> str:
    """What a proof holds for, as a hash: the task's files and settings, its image, what it is allowed, and capvec.

    Args:
        task: as loaded, so that its limits are what the options allow.
        image: its id.
        scale: which reward counts, and from where on an attempt is solved.
    """
    settings = {name: value for name, value in task.to_json().items() if name != "path"}
    record = {"capvec": __version__, "task": settings, "image": image, "scale": asdict(scale)}
    # `default`: metadata may hold a date.
    return hashlib.sha256(json.dumps(record, sort_keys=True, default=str).encode()).hexdigest()


def read_proof(task: Task, image: str, scale: Scale) -> TaskCheck | None:
    """The check of a task that was fit; None if there was none on this machine."""
    try:
        return TaskCheck.from_json(json.loads(_path(task, image, scale).read_text(encoding="utf-8")))
    except (OSError, ValueError, UsageError):
        return None


def keep_proof(task: Task, image: str, scale: Scale, check: TaskCheck) -> None:
    """Keep the check of a fit task; that of another is not kept, and runs again."""
    if check.problem:
        return
    path = _path(task, image, scale)
    with suppress(OSError):  # without a cache it is checked again
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=path.parent, delete=False, encoding="utf-8") as file:
            file.write(json.dumps(check.to_json()) + "\n")
        os.replace(file.name, path)


def _path(task: Task, image: str, scale: Scale) -> Path:
    return cache_root() / "checks" / f"{proof_key(task, image, scale)}.json"
