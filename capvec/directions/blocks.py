"""Arithmetic on many labellings in blocks, each small enough for the processor's cache."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

_WORK = 1 << 18
"""Multiplications of a block with an n × n matrix. The linear algebra library splits more than these between threads,
which wait for each other; here the threads have layers of their own."""
_LEAST = 64


def blocks(rows: int, n: int) -> Iterator[slice]:
    """Slices of so many rows of n numbers."""
    step = max(_LEAST, _WORK // n**2)
    yield from (slice(start, start + step) for start in range(0, rows, step))


def product(left: NDArray[np.floating[Any]], right: NDArray[np.floating[Any]]) -> NDArray[Any]:
    """`left @ right`, of many rows and a small matrix, in Fortran order: what is done to a column is done to all rows
    at once.
    """
    found = np.empty((right.shape[1], len(left)), dtype=np.result_type(left, right))
    for block in blocks(len(left), len(right)):
        np.matmul(right.T, left[block].T, out=found[:, block])
    return found.T
