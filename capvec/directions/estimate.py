"""Estimating a direction from residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from capvec.directions.estimators import METHODS, Method
from capvec.directions.fit import centred_states, fit
from capvec.directions.labels import Labellings
from capvec.directions.recipe import EstimatorName


def estimate(
    positives: NDArray[np.float32],
    negatives: NDArray[np.float32],
    estimator: EstimatorName = "mean-difference",
    *,
    tasks: Sequence[str] | None = None,
    rewards: Sequence[float] | None = None,
) -> NDArray[np.float32]:
    """Estimate the vectors of a direction, with their natural length.

    v_L = d_L·(mean(pos·d_L) − mean(neg·d_L)) for the unit vector d_L of any estimator in `estimators.METHODS`: α = 1
    moves the mean projection of the negatives onto that of the positives. For the mean difference this is exactly
    μ₊ − μ₋. The formula also fixes the sign: positives project higher on average.

    Args:
        positives: float32 `[n_pos, n_layers, d_model]`.
        negatives: float32 `[n_neg, n_layers, d_model]`.
        estimator: by name.
        tasks: name of each trace's task, positives first, for `paired-pca`; None takes each for a task of its own.
        rewards: of each trace, positives first, for `ridge`; None takes 1 for positives and 0 for negatives.

    Returns:
        float32 `[n_layers, d_model]`; computed in float64. Zero where the classes do not differ.

    Raises:
        ValueError: an empty class, shapes that do not match, or not one task and reward for each trace.
    """
    check_shapes(positives, negatives)
    observed = Labellings.observed(len(positives), len(negatives), tasks, rewards)
    if estimator == "mean-difference":
        return mean_difference(positives, negatives)  # the same, without the rounding of the weights
    return np.asarray(directions(np.concatenate([positives, negatives]), observed, METHODS[estimator])[0])


def directions(residuals: NDArray[np.float32], labellings: Labellings, method: Method) -> NDArray[np.float32]:
    """The direction of each labelling, as `estimate`: `[n, n_layers, d_model]` → float32 `[B, n_layers, d_model]`."""
    _, n_layers, d_model = residuals.shape
    vectors = np.empty((len(labellings.labels), n_layers, d_model), dtype=np.float32)
    for layer in range(n_layers):
        states = centred_states(residuals, layer)
        fits = fit(states @ states.T, labellings, method, d_model)
        vectors[:, layer] = fits.margins[:, None] * (fits.weights @ states)
    return vectors


def mean_difference(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> NDArray[np.float32]:
    """v_L = μ₊ − μ₋, the difference of the class means.

    Args:
        positives: float32 `[n_pos, n_layers, d_model]`.
        negatives: float32 `[n_neg, n_layers, d_model]`.

    Returns:
        float32 `[n_layers, d_model]`; summed in float64.

    Raises:
        ValueError: an empty class, or shapes that do not match.
    """
    check_shapes(positives, negatives)
    gap = positives.mean(axis=0, dtype=np.float64) - negatives.mean(axis=0, dtype=np.float64)
    return np.asarray(gap, dtype=np.float32)


def ambient_norms(residuals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean ‖h_L‖ over all traces: `[n, n_layers, d_model]` → `[n_layers]`."""
    return np.asarray(np.linalg.norm(residuals.astype(np.float64), axis=2).mean(axis=0))


def check_shapes(positives: NDArray[np.float32], negatives: NDArray[np.float32]) -> None:
    """Check that both classes have residuals of the same number of layers and the same width.

    Raises:
        ValueError: an empty class, or shapes that do not match.
    """
    if positives.ndim != 3 or negatives.ndim != 3 or positives.shape[1:] != negatives.shape[1:]:
        raise ValueError(
            f"residuals of shapes {positives.shape} and {negatives.shape}; expected [n, n_layers, d_model]"
        )
    if not len(positives) or not len(negatives):
        raise ValueError(f"{len(positives)} positives and {len(negatives)} negatives: expected at least one of each")
