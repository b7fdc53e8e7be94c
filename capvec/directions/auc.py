"""The area under the ROC curve."""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import ArrayLike, NDArray

_FEW_PAIRS = 48
"""Up to about this many pairs per trace, counting pairs is faster than ranking."""


def auc(positives: ArrayLike, negatives: ArrayLike) -> float:
    """The probability that a positive scores above a negative, ties at one half (Hanley and McNeil, 1982).

    Args:
        positives: scores, `[n_pos]`.
        negatives: scores, `[n_neg]`.

    Raises:
        ValueError: an empty class, or a score that is not finite.
    """
    pos, neg = np.asarray(positives, dtype=float), np.asarray(negatives, dtype=float)
    labels = np.arange(len(pos) + len(neg)) < len(pos)
    return float(auc_of_rows(np.concatenate([pos, neg])[None], labels[None])[0])


def auc_of_rows(scores: NDArray[np.float64] | NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Compute one AUC for each row.

    Args:
        scores: `[B, n]`, or `[1, n]` for the same scores under every row of labels.
        labels: `[B, n]`, true for positives, with as many of them in every row.

    Returns:
        `[B]`.

    Raises:
        ValueError: an empty class, or a score that is not finite.
    """
    if not len(labels):
        return np.empty(0)
    scores = np.broadcast_to(np.asarray(scores, dtype=np.float64), labels.shape)
    n_pos = int(labels[0].sum())
    n_neg = labels.shape[1] - n_pos
    if n_pos == 0 or n_neg == 0:
        raise ValueError(f"{n_pos} positives and {n_neg} negatives: expected at least one of each")
    if not np.isfinite(scores).all():
        raise ValueError("scores must be finite numbers")
    positives, negatives = scores[labels].reshape(-1, n_pos), scores[~labels].reshape(-1, n_neg)
    if n_pos * n_neg <= _FEW_PAIRS * (n_pos + n_neg):
        return _by_pairs(positives, negatives)
    # By rank sums: U = R₊ − n₊(n₊ + 1)/2, AUC = U / (n₊n₋).
    ranks = scipy.stats.rankdata(np.concatenate([positives, negatives], axis=1), axis=1)
    return np.asarray((ranks[:, :n_pos].sum(axis=1) - n_pos * (n_pos + 1) / 2) / (n_pos * n_neg))


def _by_pairs(positives: NDArray[np.float64], negatives: NDArray[np.float64]) -> NDArray[np.float64]:
    """One column of the smaller class at a time, so that no array is larger than the scores."""
    n_pos, n_neg = positives.shape[1], negatives.shape[1]
    few, many = sorted((positives.T, negatives.T), key=len)
    few, many = np.ascontiguousarray(few), np.ascontiguousarray(many)
    halves = np.zeros(few.shape[1], dtype=np.int64)
    for column in few:
        # A win counts twice, a tie once.
        halves += np.count_nonzero(column > many, axis=0) + np.count_nonzero(column >= many, axis=0)
    share = np.asarray(halves / (2 * n_pos * n_neg))
    return share if n_pos <= n_neg else 1 - share
