"""In how many threads a model computes a step on a CPU.

Sandboxes and workers run beside the engine. All threads of a step wait for the one that lost its core to them, many
times a step, and a step of few rows has little to share. So it leaves one core to the others.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

FEW = 4
"""Rows of a step that leaves a core free. On two cores a step of four takes less time in one thread, of eight more."""


def threads_for(rows: int) -> int:
    """How many threads a step of so many rows takes, of a model whose results do not depend on it."""
    every = torch.get_num_threads()
    return max(1, every - 1) if rows <= FEW else every


@contextmanager
def computing_in(threads: int) -> Iterator[None]:
    """In its context, this thread's operations take so many threads."""
    before = torch.get_num_threads()
    if threads == before:
        yield
        return
    torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
