"""A confidence interval for an AUC whose scores come in clusters."""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.records import Interval


def auc_interval(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], clusters: NDArray[np.int64], level: float = 0.95
) -> Interval:
    """A score interval for the AUC, with the sample sizes that the clusters leave.

    Newcombe's method 5 (Statistics in Medicine 25, 2006, part 2), which does not shrink to a point at AUC 0 or 1, on
    effective numbers of positives and negatives: n₊ and n₋ over the design effect, which is the variance of the AUC
    with clusters (Obuchowski, Biometrics 53, 1997) over that without (DeLong et al., Biometrics 44, 1988). The design
    effect is at least 1, and at most the value that leaves one observation for each cluster of the class. This largest,
    most cautious value is used where the variances are not defined or 0, as at AUC 1.

    Args:
        scores: `[n]`.
        labels: `[n]`, true for positives.
        clusters: `[n]`, the same number for observations of the same cluster.
        level: of confidence.

    Returns:
        The interval, within 0 and 1.

    Raises:
        ValueError: an empty class.
    """
    if not labels.any() or labels.all():
        raise ValueError(f"{int(labels.sum())} positives of {len(labels)}: expected at least one of each class")
    value, plain, clustered = _variances(scores, labels, clusters)
    share = plain / clustered if plain > 0 and clustered > 0 else 0.0
    n_pos, n_neg = (
        float(np.clip(share * of_class.sum(), len(np.unique(clusters[of_class])), of_class.sum()))
        for of_class in (labels, ~labels)
    )
    return Interval(
        _newcombe_low(value, n_pos, n_neg, level),
        1 - _newcombe_low(1 - value, n_pos, n_neg, level),
    )


def _variances(
    scores: NDArray[np.float64], labels: NDArray[np.bool_], clusters: NDArray[np.int64]
) -> tuple[float, float, float]:
    """The AUC, its variance without and with clusters; a variance that is not defined is 0."""
    gaps = scores[labels][:, None] - scores[~labels][None, :]
    wins = (gaps > 0) + 0.5 * (gaps == 0)
    value = float(wins.mean())
    # How far each observation's share of pairs won is from the AUC, over the size of its class.
    parts = np.zeros(len(scores))
    parts[labels] = (wins.mean(axis=1) - value) / labels.sum()
    parts[~labels] = (wins.mean(axis=0) - value) / (~labels).sum()
    return value, _variance(parts, labels, np.arange(len(scores))), _variance(parts, labels, clusters)


def _variance(parts: NDArray[np.float64], labels: NDArray[np.bool_], clusters: NDArray[np.int64]) -> float:
    """Obuchowski's S₁₀/n₊ + S₀₁/n₋ + 2S₁₁/(n₊n₋); with one observation a cluster it is DeLong's."""
    _, numbers = np.unique(clusters, return_inverse=True)
    count = int(numbers.max()) + 1
    sums = [np.bincount(numbers, parts * of_class, minlength=count) for of_class in (labels, ~labels)]
    occupied = [len(np.unique(numbers[of_class])) for of_class in (labels, ~labels)]
    if min(occupied) < 2:
        return 0.0
    own = sum(c / (c - 1) * float(total @ total) for c, total in zip(occupied, sums, strict=True))
    return max(own + 2 * count / (count - 1) * float(sums[0] @ sums[1]), 0.0)


def _newcombe_low(value: float, n_pos: float, n_neg: float, level: float) -> float:
    """The θ below `value` with value − θ = z·√V(θ); by symmetry the upper end is 1 − this of 1 − value.

    V(θ) = θ(1 − θ)/(n₊n₋)·(1 + N(1 − θ)/(2 − θ) + Nθ/(1 + θ)), N = (n₊ + n₋)/2 − 1: Hanley and McNeil's variance
    (1982) with the mean of both sample sizes in place of each.
    """
    z = float(scipy.stats.norm.ppf((1 + level) / 2))
    mean = (n_pos + n_neg) / 2 - 1

    def beyond(theta: float) -> float:
        spread = 1 + mean * (1 - theta) / (2 - theta) + mean * theta / (1 + theta)
        return value - theta - z * math.sqrt(theta * (1 - theta) / (n_pos * n_neg) * spread)

    # `beyond` is positive at 0 and negative just below `value`; its zero at 1 is not the root that is wanted.
    top = min(value, 1 - 1e-9)
    return float(scipy.optimize.brentq(beyond, 0.0, top)) if value > 0 else 0.0
