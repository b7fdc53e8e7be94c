"""Logistic regression under many labellings of the same traces at once, in their Gram matrix.

With K the Gram matrix and a penalty of 1, a fit has weights w that sum to 0, log odds f = Kw + b, and w = y − σ(f).
"""

from __future__ import annotations

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.directions.blocks import product

_TOLERANCE = 1e-8
_STEPS, _ROUNDS, _MAX_STEPS = 12, 4, 20_000
_NEAR = 1e-2
"""What may be missing before the last step in 24 bits: it leaves about its square, and rounding 1e-7."""
_TURNS = 2
_CURVED = 0.05
"""Half of the largest second derivative of σ, rounded up."""

Floats = NDArray[np.float32]


def fit_logistic(gram: NDArray[np.float64], labels: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Fit by Newton steps, first in numbers of 24 bits, then from residuals in numbers of 53 bits.

    Args:
        gram: of centred traces, scaled to a mean of 1 on its diagonal, `[n, n]`.
        labels: `[B, n]`, each row with both classes.

    Returns:
        The weights `[B, n]`, and for which labellings they were found, `[B]`.
    """
    y = np.ascontiguousarray(labels.T, dtype=np.float64)  # traces first: what is done to one is done under all labels
    newton = _Newton(gram, y)
    with np.errstate(over="ignore", divide="ignore", invalid="ignore"):  # what diverges is not found
        intercept, weights = _roughly(newton, y.astype(np.float32))
        found = _refine(newton, gram, y, intercept, weights)
    return weights.T, found


class _Newton:
    """Newton steps under many labellings with one matrix, and the arrays that they change in place.

    With u = y − p − w what is missing and H the curvatures p(1 − p), a step changes the weights by δ where
    (I + HK)δ = u. With h the mean curvature and P = (I + hK)⁻¹, δ is nearly P u(1 + h)/(1 + H): exactly so where K is
    the identity, to which it is near in wide residuals, and where the curvatures are alike. What that leaves of u can
    be corrected in another turn.
    """

    def __init__(self, gram: NDArray[np.float64], y: NDArray[np.float64]) -> None:
        shares = y.mean(axis=0)
        mean = float((shares * (1 - shares)).mean()) if shares.size else 0.0
        values, vectors = np.linalg.eigh(gram)
        values = np.maximum(values, 0)
        self._mean = np.float32(mean)
        self._matrix = ((vectors * (values / (1 + mean * values))) @ vectors.T).astype(np.float32)  # KP; P = I − hKP
        self._curvature, self._ratio, self._lost, self.moved = np.empty((4, *y.shape), dtype=np.float32)
        self._total = np.empty(len(shares), dtype=np.float32)

    def curve(self, p: Floats) -> None:
        """Take the curvature from these probabilities."""
        np.subtract(1, p, out=self._curvature)
        self._curvature *= p
        self._curvature.sum(axis=0, out=self._total)
        np.add(self._curvature, 1, out=self._ratio)
        np.divide(1 + self._mean, self._ratio, out=self._ratio)

    def turn(self, missing: Floats) -> Floats:
        """Put the change of the weights, which sums to 0, into `moved`.

        Returns:
            The change of the log odds, `[n, B]`.
        """
        np.multiply(missing, self._ratio, out=self.moved)
        self.moved -= self.moved.mean(axis=0)
        change = product(self.moved.T, self._matrix).T
        np.multiply(change, self._mean, out=self._lost)
        self.moved -= self._lost
        np.multiply(self._curvature, change, out=self._lost)
        # The intercept takes a Newton step of its own.
        change += (missing.sum(axis=0) - self._lost.sum(axis=0)) / self._total
        return change

    def correct(self, missing: Floats, change: Floats) -> None:
        """Take what a turn found from what is missing, as if the curvature stayed the same."""
        missing -= self.moved
        np.multiply(self._curvature, change, out=self._lost)
        missing -= self._lost


def _roughly(newton: _Newton, y: Floats) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Intercepts `[B]` and weights `[n, B]`."""
    p = np.empty_like(y)
    p[:] = y.mean(axis=0)
    weights, odds, missing = np.zeros_like(y), scipy.special.logit(p), y - p
    for _ in range(_STEPS):
        newton.curve(p)
        odds += newton.turn(missing)
        weights += newton.moved
        if max(missing.max(initial=0), -missing.min(initial=0)) <= _NEAR:
            break
        np.negative(odds, out=p)
        np.exp(p, out=p)
        p += 1
        np.divide(1, p, out=p)
        np.subtract(y, p, out=missing)
        missing -= weights
    return odds.mean(axis=0, dtype=np.float64), weights.astype(np.float64)


def _refine(
    newton: _Newton,
    gram: NDArray[np.float64],
    y: NDArray[np.float64],
    intercept: NDArray[np.float64],
    weights: NDArray[np.float64],
) -> NDArray[np.bool_]:
    """Change the weights in place, and say which are found."""
    found: NDArray[np.bool_] = np.zeros(len(intercept), dtype=bool)
    for _ in range(_ROUNDS):
        weights -= weights.mean(axis=0)
        p = product(weights.T, gram).T
        p += intercept
        scipy.special.expit(p, out=p)
        newton.curve(p.astype(np.float32))
        np.subtract(y, p, out=p)
        p -= weights
        missing = p.astype(np.float32)
        largest = 0.0
        for _ in range(_TURNS):
            change = newton.turn(missing)
            newton.correct(missing, change)
            weights += newton.moved
            intercept += change.mean(axis=0)
            largest = np.maximum(largest, np.abs(change, out=change).max(axis=0))
        # The second derivative is what constant curvature leaves out.
        np.less_equal(np.abs(missing, out=missing).max(axis=0) + _CURVED * largest**2, _TOLERANCE, out=found)
        if found.all():
            break
    return found


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
    beta, intercept = np.zeros_like(y), scipy.special.logit(y.mean(axis=1, keepdims=True))
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
        weights[active] = y[active] - scipy.special.expit(beta[active] @ states.T + intercept[active])
    raise ArithmeticError(f"logistic regression on {len(gram)} traces did not converge in {_MAX_STEPS} steps")
