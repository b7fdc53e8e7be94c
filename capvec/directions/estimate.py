"""Estimating a direction from residuals."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from capvec.directions.direction import Direction
from capvec.directions.estimators import METHODS, Method
from capvec.directions.fit import centred_states, fit
from capvec.directions.labels import Labellings, positives_first
from capvec.directions.recipe import EstimatorName


def estimate_direction(
    residuals: NDArray[np.float32],
    labels: ArrayLike,
    *,
    tasks: Sequence[str] | None = None,
    estimator: EstimatorName = "mean-difference",
    rewards: Sequence[float] | None = None,
) -> Direction:
    """Estimate the direction that separates two classes of residuals.

    v_L = d_L·(mean(pos·d_L) − mean(neg·d_L)) for the unit vector d_L that the estimator finds, so that α = 1 moves the
    mean projection of the negatives onto that of the positives. For the mean difference this is μ₊ − μ₋. Positives
    project higher on average, which fixes the sign. The arithmetic is in float64.

    Args:
        residuals: float32 `[n, n_layers, d_model]`, one pooled residual for each trace and layer.
        labels: bool `[n]`, true for positives.
        tasks: name of each trace's task, `[n]`, for `paired-pca`; None takes each trace for a task of its own.
        estimator: `mean-difference`, `whitened`, `logistic`, `paired-pca` or `ridge`.
        rewards: of each trace, `[n]`, for `ridge`; None takes 1 for positives and 0 for negatives.

    Returns:
        The direction with the mean residual norms of its layers; zero where the classes do not differ.

    Raises:
        ValueError: an empty class; not one label, task and reward for each trace; or a shape is another one.

    Example:
        >>> import numpy as np
        >>> residuals = np.zeros((4, 1, 2), np.float32)
        >>> residuals[:2, 0] = [3, 1]
        >>> residuals[2:, 0] = [1, 1]
        >>> estimate_direction(residuals, [True, True, False, False]).vectors.tolist()
        [[2.0, 0.0]]
    """
    residuals, n_pos, tasks, rewards = positives_first(residuals, labels, tasks, rewards)
    observed = Labellings.observed(n_pos, len(residuals) - n_pos, tasks, rewards)
    if estimator == "mean-difference":  # directly, without the rounding of the weights
        positives, negatives = (side.mean(axis=0, dtype=np.float64) for side in np.split(residuals, [n_pos]))
        vectors = (positives - negatives).astype(np.float32)
    else:
        vectors = directions(residuals, observed, METHODS[estimator])[0]
    return Direction(vectors, ambient_norms(residuals))


def directions(residuals: NDArray[np.float32], labellings: Labellings, method: Method) -> NDArray[np.float32]:
    """The vectors of each labelling, with their natural length: float32 `[B, n_layers, d_model]`."""
    _, n_layers, d_model = residuals.shape
    vectors = np.empty((len(labellings.labels), n_layers, d_model), dtype=np.float32)
    for layer in range(n_layers):
        states = centred_states(residuals, layer)
        fits = fit(states @ states.T, labellings, method, d_model)
        vectors[:, layer] = fits.margins[:, None] * (fits.weights @ states)
    return vectors


def ambient_norms(residuals: NDArray[np.float32]) -> NDArray[np.float64]:
    """Mean ‖h_L‖ over all traces: `[n, n_layers, d_model]` → `[n_layers]`."""
    return np.asarray(np.linalg.norm(residuals.astype(np.float64), axis=2).mean(axis=0))
