"""Directions in the Gram matrix of a layer: their weights, projections and margins."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capvec.directions.blocks import product
from capvec.directions.estimators import Method
from capvec.directions.labels import Labellings


@dataclass(frozen=True, eq=False)
class Fits:
    """One unit direction d = Xᵀw for each of B labellings, signed so that positives project higher on average."""

    weights: NDArray[np.float64]
    """w, `[B, n]`; zero where the estimator gave the zero vector."""
    projections: NDArray[np.float64]
    """x·d of the centred traces, `[B, n]`."""
    margins: NDArray[np.float64]
    """mean(pos·d) − mean(neg·d), `[B]`: at least 0, and the length that the stored vector v = margin·d gets."""


def fit(gram: NDArray[np.float64], labellings: Labellings, method: Method, d_model: int) -> Fits:
    """Fit every labelling.

    Args:
        gram: of traces centred on their own mean, `[n, n]`.
        labellings: of these traces, each with both classes.
        method: the estimator.
        d_model: width of the residual.
    """
    weights = method.weights(gram, labellings, d_model)
    projections = product(weights, gram)
    scale, margins = unit_scales(weights, projections, labellings)
    return Fits(weights * scale[:, None], projections * scale[:, None], margins)


def unit_scales(
    weights: NDArray[np.float64], projections: NDArray[np.float64], labellings: Labellings
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """What makes directions of length 1 of weights, with the sign of `Fits`, and their margins, `[B]` each.

    Args:
        weights: `[B, n]`.
        projections: on the directions that they give, `[B, n]`.
        labellings: that they were fitted to.
    """
    lengths = np.sqrt(np.maximum(np.einsum("bn,bn->b", weights, projections), 0))
    scale = np.divide(1, lengths, out=np.zeros_like(lengths), where=lengths > 0)
    gaps = np.einsum("bn,bn->b", projections, labellings.contrast) * scale
    return np.where(gaps < 0, -scale, scale), np.abs(gaps)


def centred_states(residuals: NDArray[np.float32], layer: int) -> NDArray[np.float64]:
    """One layer's residuals minus their mean, `[n, n_layers, d_model]` → float64 `[n, d_model]`.

    Centring changes no direction, but it reduces rounding. Without it, a coordinate that is 1000 in every trace, beside
    a standard deviation of 0.05, moves the margin by a relative 5e-9, which is enough to decide ties.
    """
    states = residuals[:, layer].astype(np.float64)
    return np.asarray(states - states.mean(axis=0))


def recentred(gram: NDArray[np.float64], traces: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The Gram matrix of all traces minus the mean of some of them: `[n, n]` → `[n, n]`."""
    to_mean = gram[:, traces].mean(axis=1)
    return np.asarray(gram - to_mean[:, None] - to_mean[None, :] + to_mean[traces].mean())
