"""Logistic regression under many labellings of the same traces at once, in their Gram matrix.

With K the Gram matrix and a penalty of 1, a fit has weights w that sum to 0, log odds f = Kw + b, and w = y − σ(f).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import special

from capvec.directions.blocks import blocks

_TOLERANCE = 1e-8
_STEPS, _MAX_STEPS = 12, 20_000
_ROUGH = 1e-2
"""Largest change of log odds in a step after which rounding to 24 bits would be seen."""
_FINE = 3e-4
"""The same up to which two terms of a Taylor series are exact to 1e-12."""


def fit_logistic(gram: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fit by Newton steps that take the curvature p(1 − p) to be alike in all traces and labellings.

    So one matrix serves all: with h the mean curvature, u = y − p − w what is missing, and P = (I + hK)⁻¹, the log odds
    change by KPu, and the weights by u − hKPu. The intercept takes a Newton step of its own. The less the probabilities
    differ, the faster: in wide residuals by a factor of about 20 a step.

    Args:
        gram: of centred traces, scaled to a mean of 1 on its diagonal, `[n, n]`.
        labels: `[B, n]`, each row with both classes.

    Returns:
        The weights `[B, n]`, and for which labellings they were found, `[B]`.
    """
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)
    weights, found = np.empty(labels.shape), np.empty(len(labels), dtype=bool)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what diverges is not found
        for block in blocks(*labels.shape):
            weights[block], found[block] = _fit(values, vectors, labels[block].astype(float))
    return weights, found


def _fit(
    values: NDArray[np.float64], vectors: NDArray[np.float64], y: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """From the eigenvalues and eigenvectors of the Gram matrix."""
    p = np.repeat(y.mean(axis=1, keepdims=True), y.shape[1], axis=1)
    odds, weights, missing = special.logit(p), np.zeros_like(y), y - p
    ones, change, exact = np.ones((y.shape[1], 1)), np.empty_like(y), True
    for step in range(_STEPS):
        curvature = p * (1 - p)
        if step < 2:
            mean = float(curvature.mean())
            solve = (vectors * (values / (1 + mean * values))) @ vectors.T
        np.matmul(missing, solve, out=change)
        weights += missing
        weights -= missing.mean(axis=1, keepdims=True)
        weights -= mean * change
        change += (missing - curvature * change) @ ones / (curvature @ ones)
        odds += change
        exact = _follow(p, odds, change, curvature, exact)
        np.subtract(y, p, out=missing)
        missing -= weights
        worst = max(float(missing.max(initial=0)), -float(missing.min(initial=0)))
        if exact and worst <= _TOLERANCE:
            break
    return y - p, (np.abs(missing) <= _TOLERANCE).all(axis=1)


def _follow(
    p: NDArray[np.float64],
    odds: NDArray[np.float64],
    change: NDArray[np.float64],
    curvature: NDArray[np.float64],
    exact: bool,
) -> bool:
    """Bring probabilities up to date in place, and say whether they are exact, as they were before or not.

    While the steps are large, the next one corrects what rounding to 24 bits changes.
    """
    largest = max(float(change.max(initial=0)), -float(change.min(initial=0)))
    if largest > _ROUGH:
        rough = np.exp(-odds.astype(np.float32))
        np.divide(1, 1 + rough, out=p)
        return False
    if largest > _FINE or not exact:
        special.expit(odds, out=p)
    else:  # σ(f + c) = p + p'c + p''c²/2, p'' = p'(1 − 2p)
        change *= 1 + change * (0.5 - p)
        change *= curvature
        p += change
    return True


def fit_logistic_surely(gram: NDArray[np.float64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Fit by Newton steps with the bound of the Hessian by Böhning and Lindsay (1988), p(1 − p) ≤ 1/4.

    The bound is diagonal in the eigenbasis of the Gram matrix and knows no labels; each step decreases the loss. Slower
    than `fit_logistic`, but it converges where classes are told apart with certainty.

    Args:
        gram: as there.
        labels: as there.

    Returns:
        The weights `[B, n]`.

    Raises:
        ArithmeticError: no convergence.
    """
    y = labels.astype(float)
    values, vectors = np.linalg.eigh(gram)
    values = np.maximum(values, 0)
    states = vectors * np.sqrt(values)
    step = 1 / (values / 4 + 1)
    beta, intercept = np.zeros_like(y), special.logit(y.mean(axis=1, keepdims=True))
    weights = np.asarray(y - y.mean(axis=1, keepdims=True))
    active = np.ones(len(y), dtype=bool)
    for _ in range(_MAX_STEPS):
        slope = weights[active] @ states - beta[active]
        offset = weights[active].mean(axis=1, keepdims=True)
        moving = (np.abs(slope).max(axis=1) > _TOLERANCE) | (np.abs(offset[:, 0]) > _TOLERANCE)
        active[active] = moving
        if not active.any():
            return weights
        beta[active] += slope[moving] * step
        intercept[active] += 4 * offset[moving]
        weights[active] = y[active] - special.expit(beta[active] @ states.T + intercept[active])
    raise ArithmeticError(f"logistic regression on {len(gram)} traces did not converge in {_MAX_STEPS} steps")
