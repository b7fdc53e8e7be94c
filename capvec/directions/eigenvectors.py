"""The first eigenvector of many small matrices at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SMALL = 10
"""Rows up to which squaring a matrix is faster than LAPACK."""
_SQUARINGS = 5
"""Each twice: a power of 1,024."""
_TOLERANCE = 1e-12


def first_eigenvectors(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit eigenvectors of the largest eigenvalues, with any sign.

    Small matrices are shifted towards their least eigenvalue, so that the largest stands out, and squared over and
    over: their high powers are the projection on the eigenvector. Where the two largest are so near to each other that
    this has not converged, LAPACK decides.

    Args:
        matrices: symmetric and positive semidefinite, `[B, k, k]`.

    Returns:
        `[B, k]`.
    """
    count, size, _ = matrices.shape
    if not 0 < size <= _SMALL:
        return np.asarray(np.linalg.eigh(matrices)[1][:, :, -1])
    power = _over_trace(matrices)
    diagonal = np.einsum("bii->bi", power)
    present = diagonal > 0  # a row of zeros stays one
    sizes = np.maximum(present.sum(axis=1), 1)
    # No eigenvalue is below their mean less √(k − 1) standard deviations.
    spread = np.sqrt(np.maximum(np.einsum("bij,bij->b", power, power) - 1 / sizes, 0) * (sizes - 1) / sizes)
    diagonal -= present * np.maximum(1 / sizes - spread, 0)[:, None]
    power = _over_trace(power)
    for _ in range(_SQUARINGS):
        power = power @ power
        power = _over_trace(power @ power)
    vectors: NDArray[np.float64] = power[np.arange(count), np.einsum("bii->bi", power).argmax(axis=1)]
    vectors /= np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), np.finfo(float).tiny)
    # A projection has the trace 1 and the sum of squares 1; with a second eigenvector left in it, a smaller sum.
    unsure = np.einsum("bij,bij->b", power, power) < 1 - _TOLERANCE
    vectors[unsure] = np.linalg.eigh(matrices[unsure])[1][:, :, -1]
    return vectors


def _over_trace(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    trace = np.einsum("bii->b", matrices)
    scaled: NDArray[np.float64] = matrices / np.where(trace > 0, trace, 1)[:, None, None]
    return scaled
