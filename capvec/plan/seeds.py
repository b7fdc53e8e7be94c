"""What follows from `--seed`: the seed of each trial, and the order in which tasks are drawn."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable


def trial_seed(base: int, task: str, attempt: int) -> int:
    """The seed that all configs of one (task, attempt) share: 31 bits of SHA-256 over base, task and attempt."""
    digest = hashlib.sha256(f"{base}/{task}/{attempt}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def drawn_order(tasks: Iterable[str], seed: int) -> tuple[str, ...]:
    """Names of tasks in an order that depends on the seed alone, so that the first ones are a random sample."""
    return tuple(sorted(tasks, key=lambda name: (trial_seed(seed, name, 0), name)))
