"""The estimators: one callable each, from the Gram matrix of a layer to weights on its traces.

Every direction here is a weighted sum of the traces, v = Xᵀw with X the centred residuals `[n, d_model]`. Everything
that validates a direction (projections X Xᵀw, the length √(wᵀX Xᵀw), cosines, refits without some traces or under other
labels) follows from w and the n × n matrix G = X Xᵀ, so that no refit needs d_model dimensions.

To add an estimator, write a callable that satisfies `Estimator`, enter it in `METHODS`, and add its name to
`recipe.EstimatorName`; the tests of tests/unit/directions/test_estimators.py then run on it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from capvec.directions.blocks import product
from capvec.directions.eigenvectors import first_eigenvectors
from capvec.directions.labels import Labellings
from capvec.directions.logistic import fit_logistic, fit_logistic_surely
from capvec.directions.recipe import EstimatorName


class Estimator(Protocol):
    """Maps one layer's Gram matrix to a direction for each labelling."""

    def __call__(self, gram: NDArray[np.float64], labellings: Labellings, d_model: int) -> NDArray[np.float64]:
        """Weights `[B, n]` whose rows w give the direction Xᵀw, up to its length and sign.

        Args:
            gram: X Xᵀ, `[n, n]`, with X centred on the mean of these n traces.
            labellings: B labellings of the n traces, each with both classes.
            d_model: columns of X.
        """
        ...


def mean_difference_weights(
    gram: NDArray[np.float64],  # noqa: ARG001 (all estimators share one signature)
    labellings: Labellings,
    d_model: int,  # noqa: ARG001
) -> NDArray[np.float64]:
    """μ₊ − μ₋, as in contrastive activation addition (Rimsky et al., ACL 2024, section 3; Marks and Tegmark, 2023)."""
    return labellings.contrast


def whitened_weights(gram: NDArray[np.float64], labellings: Labellings, d_model: int) -> NDArray[np.float64]:
    """Σ⁻¹(μ₊ − μ₋), Fisher's linear discriminant with a shrunk covariance.

    Σ = (1 − ρ)S + ρ·m·I, with S the covariance of all traces, m = tr S / d, and ρ the shrinkage intensity of Ledoit and
    Wolf (J. Multivariate Analysis 88, 2004, section 3.2).

    The discriminant is usually written with the covariance within classes, S_w = S − c·δδᵀ, where δ = μ₊ − μ₋ and
    c = n₊n₋/n². The direction is the same: for any λ, (S_w + λI)⁻¹δ ∝ (S + λI)⁻¹δ by Sherman and Morrison. But S does
    not depend on the labels, so that one inverse serves all of them.

    In the dual, with y the weights of the mean difference: (aXᵀX + bI)⁻¹Xᵀy = Xᵀ(aXXᵀ + bI)⁻¹y, an n × n inverse.
    """
    rho, mean = ledoit_wolf(gram, d_model)
    matrix = (1 - rho) / len(gram) * gram + rho * mean * np.eye(len(gram))
    return product(labellings.contrast, np.linalg.pinv(matrix, hermitian=True))


def ledoit_wolf(gram: NDArray[np.float64], d_model: int) -> tuple[float, float]:
    """Shrinkage intensity ρ of a covariance and its mean eigenvalue, from the Gram matrix of centred observations.

    ρ = b²/d², both with the norm ‖A‖² = tr(AAᵀ)/d_model, d² = ‖S − mI‖² and b² = min(d², Σₖ‖xₖxₖᵀ − S‖²/n²). In terms
    of G: tr S = tr G/n, tr S² = ΣG²/n², and Σₖ tr(xₖxₖᵀ − S)² = ΣGₖₖ² − n·tr S².
    """
    n = len(gram)
    mean = float(np.trace(gram)) / n / d_model
    square = float((gram**2).sum()) / n**2
    spread = square - d_model * mean**2
    if spread <= 0:
        return 1.0, mean
    noise = (float((np.diag(gram) ** 2).sum()) / n - square) / n
    return min(noise / spread, 1.0), mean


def logistic_weights(
    gram: NDArray[np.float64],
    labellings: Labellings,
    d_model: int,  # noqa: ARG001
) -> NDArray[np.float64]:
    """Logistic regression with an L2 penalty and a free intercept (le Cessie and van Houwelingen, 1992).

    Minimises Σ log(1 + exp(−sᵢ(xᵢ·β + b))) + λ‖β‖²/2, with s = ±1 and λ = tr G/n: a penalty of 1 once the traces are
    scaled to a mean square length of 1, so that the direction does not depend on the scale of the residuals.

    At the minimum λβ = Xᵀ(y − p), with y = 0 or 1 and p the fitted probabilities, so y − p are the weights.

    Raises:
        ArithmeticError: no convergence.
    """
    scale = float(np.trace(gram)) / len(gram)
    if scale <= 0:
        return labellings.contrast
    weights, found = fit_logistic(gram / scale, labellings.labels)
    if not found.all():
        weights[~found] = fit_logistic_surely(gram / scale, labellings.labels[~found])
    return weights


def paired_pca_weights(
    gram: NDArray[np.float64],
    labellings: Labellings,
    d_model: int,  # noqa: ARG001
) -> NDArray[np.float64]:
    """The first principal component of differences between paired positives and negatives.

    After representation reading (Zou et al., 2023, section 3.1.1), pairs as in `Labellings.pairs`. The differences are
    not centred: their mean is the mean difference, and centring would remove it. (Zou et al. put each pair in random
    order, so that the mean is near zero; steering-vectors does not centre either, repeng does with `pca_diff`.)

    With D = PX the differences, the component is Dᵀu for the first eigenvector u of DDᵀ = P G Pᵀ, so w = Pᵀu.
    """
    positives, negatives, exists = (side.T for side in labellings.pairs)
    if not exists.size:
        return np.zeros(labellings.labels.shape)  # no labelling was asked for
    n, (size, count) = len(gram), exists.shape
    rows, columns = np.tril_indices(size)
    one, other, across, back = (gram.take(places) for places in labellings.pair_places)
    outer = np.empty((size, size, count))
    outer[rows, columns] = outer[columns, rows] = one + other - across - back
    first = first_eigenvectors(outer)
    weights = np.zeros((n + 1, count))  # the last row is for pairs that do not exist
    for side, values in ((positives, first), (negatives, -first)):
        weights[np.where(exists, side, n), np.arange(count)] = values
    return weights[:n].T


def ridge_weights(
    gram: NDArray[np.float64],
    labellings: Labellings,
    d_model: int,  # noqa: ARG001
) -> NDArray[np.float64]:
    """Ridge regression of the reward (Hoerl and Kennard, 1970), in the dual (Saunders et al., 1998).

    β = Xᵀ(G + λI)⁻¹(r − r̄), with λ = tr G/n for the same reason as in `logistic_weights`. If all rewards are equal, the
    direction is zero.
    """
    penalty = float(np.trace(gram)) / len(gram)
    return product(labellings.centred_rewards, np.linalg.pinv(gram + penalty * np.eye(len(gram)), hermitian=True))


@dataclass(frozen=True)
class Method:
    """An estimator with its name for reports."""

    weights: Estimator
    words: str
    """Its name in reports, after "by"."""
    uses_rewards: bool = False


METHODS: Mapping[EstimatorName, Method] = {
    "mean-difference": Method(mean_difference_weights, "mean difference"),
    "whitened": Method(whitened_weights, "mean difference whitened by a shrunk covariance"),
    "logistic": Method(logistic_weights, "logistic regression"),
    "paired-pca": Method(paired_pca_weights, "first principal component of paired differences"),
    "ridge": Method(ridge_weights, "ridge regression on the reward", uses_rewards=True),
}
