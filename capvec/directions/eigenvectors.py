"""The first eigenvector of many small matrices at once."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_SMALL = 10
"""Rows up to which this is faster than LAPACK, which takes one matrix after the other."""
_STEPS = 8
_CONVERGED = 1e-7
"""A step after which the next, by cubic convergence, is less than rounding."""
_ALIKE = 1e-6
"""Two steps of inverse iteration may differ by this much: the next would differ by its square."""

_ABOVE = 2 * np.finfo(float).eps
"""Added to eigenvalues, at a trace of 1: below its own by rounding, pivots that are far from zero would be negative."""


def first_eigenvectors(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit eigenvectors of the largest eigenvalues, with any sign.

    Each matrix is brought to tridiagonal form by reflections (Householder), its largest eigenvalue is found from above
    by Laguerre's iteration (Parlett, The Symmetric Eigenvalue Problem, 1998), and the eigenvector by inverse iteration.
    Where the two largest eigenvalues are so near to each other that this has not converged, LAPACK decides.

    Args:
        matrices: symmetric and positive semidefinite, `[k, k, B]`: each step of the arithmetic is done to all of them.

    Returns:
        `[k, B]`.
    """
    size = len(matrices)
    if not 0 < size <= _SMALL:
        return _by_lapack(matrices)
    trace = np.einsum("iib->b", matrices)
    form = matrices / np.where(trace > 0, trace, 1)
    mirrors, off = _tridiagonal(form)
    diagonal = np.einsum("iib->ib", form)
    largest = _largest_eigenvalues(diagonal, off**2)
    vectors, sure = _inverse_iteration(diagonal, off, largest)
    for row, mirror in reversed(list(enumerate(mirrors, start=1))):
        vectors[row:] -= mirror * (2 * np.einsum("ib,ib->b", mirror, vectors[row:]))
    if not sure.all():
        vectors[:, ~sure] = _by_lapack(matrices[:, :, ~sure])
    return vectors


def _by_lapack(matrices: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.asarray(np.linalg.eigh(np.moveaxis(matrices, -1, 0))[1][:, :, -1].T)


def _tridiagonal(form: NDArray[np.float64]) -> tuple[list[NDArray[np.float64]], NDArray[np.float64]]:
    """Reflect matrices in place until only the diagonal, and the values beside it, are not zero.

    Returns:
        The unit vectors of the reflections, of which the first leaves row 0 as it is, `[k − 1 − i, B]`; and the values
        beside the diagonal, `[k − 1, B]`. Only the diagonal is brought up to date in the matrices.
    """
    size, _, count = form.shape
    off = np.empty((size - 1, count))
    mirrors = []
    for row in range(size - 2):
        mirror = form[row + 1 :, row].copy()
        length = np.sqrt(np.einsum("ib,ib->b", mirror, mirror))
        off[row] = np.copysign(length, -mirror[0])
        mirror[0] -= off[row]
        mirror /= np.maximum(np.sqrt(np.einsum("ib,ib->b", mirror, mirror)), np.finfo(float).tiny)
        rest = form[row + 1 :, row + 1 :]
        # With p = Av − v(vᵀAv), the reflected matrix is A − 2vpᵀ − 2pvᵀ.
        across = np.einsum("ijb,jb->ib", rest, mirror)
        across -= mirror * np.einsum("ib,ib->b", mirror, across)
        across *= 2
        rest -= mirror[:, None] * across
        rest -= across[:, None] * mirror
        mirrors.append(mirror)
    if size > 1:
        off[-1] = form[-1, -2]
    return mirrors, off


def _largest_eigenvalues(diagonal: NDArray[np.float64], squares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Of tridiagonal matrices, `[B]`, from the diagonal and the squares of the values beside it.

    With p the characteristic polynomial, as a product of the pivots q of λ − T, and G = p'/p, H = −G': the step is
    k/(G + √((k − 1)(kH − G²))), and it never goes below the largest eigenvalue.
    """
    size = len(diagonal)
    mean = diagonal.mean(axis=0)
    spread = ((diagonal - mean) ** 2).sum(axis=0) + 2 * squares.sum(axis=0)
    value = np.asarray(mean + np.sqrt(spread * (size - 1) / size))
    tiny = np.finfo(float).eps / 8
    for _ in range(_STEPS):
        pivot = np.maximum(value - diagonal[0], tiny)
        first, second = 1 / pivot, np.zeros_like(pivot)  # q'/q and q''/q
        total, squared = first.copy(), first * first
        for own, square in zip(diagonal[1:], squares, strict=True):
            ratio = square / pivot
            pivot = np.maximum(value - own - ratio, tiny)
            second = ratio * (second - 2 * first * first) / pivot
            first = (1 + ratio * first) / pivot
            total += first
            squared += first * first - second
        step = size / (total + np.sqrt(np.maximum((size - 1) * (size * squared - total * total), 0)))
        value -= step
        if step.max(initial=0) <= _CONVERGED:
            break
    return value


def _inverse_iteration(
    diagonal: NDArray[np.float64], off: NDArray[np.float64], value: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """The eigenvectors of tridiagonal matrices for the largest eigenvalues, `[k, B]`, and which have converged."""
    size = len(diagonal)
    pivots, ratios = np.empty_like(diagonal), np.empty_like(off)
    tiny = np.finfo(float).eps / 8
    for row in range(size):
        pivots[row] = value + _ABOVE - diagonal[row]
        if row:
            ratios[row - 1] = off[row - 1] / pivots[row - 1]
            pivots[row] -= off[row - 1] * ratios[row - 1]
        np.maximum(pivots[row], tiny, out=pivots[row])
    before = np.ones_like(diagonal)
    vectors = _unit(_solved_up(before / pivots, ratios))
    before = vectors.copy()
    for row in range(1, size):
        vectors[row] += ratios[row - 1] * vectors[row - 1]
    vectors = _unit(_solved_up(vectors / pivots, ratios))
    # Both are of a matrix that is positive definite but for rounding, so they have the same sign.
    return vectors, np.asarray(np.abs(vectors - before).max(axis=0) <= _ALIKE)


def _solved_up(vectors: NDArray[np.float64], ratios: NDArray[np.float64]) -> NDArray[np.float64]:
    for row in range(len(vectors) - 2, -1, -1):
        vectors[row] += ratios[row] * vectors[row + 1]
    return vectors


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    vectors /= np.sqrt(np.einsum("ib,ib->b", vectors, vectors))
    return vectors
