"""The margin that noise alone gives: what a margin over ambient norm has to be read against."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def noise_margins(residuals: NDArray[np.float32], n_pos: int) -> NDArray[np.float64]:
    """The mean difference's length of two classes that do not differ, with these numbers of traces and this spread.

    Let the traces be independent, with the same mean and the same covariance Σ in both classes. The difference of the
    class means then has the covariance Σ(1/n₊ + 1/n₋), and its expected squared length is the trace of that:

        E‖μ₊ − μ₋‖² = tr Σ · (1/n₊ + 1/n₋).

    The value is the square root. tr Σ is estimated without bias, whether the classes differ or not, by the squared
    distances of the traces from the means of their classes over n − 2. Bai and Saranadasa (Statistica Sinica 6, 1996,
    section 3) base their test of two means in many dimensions on the difference between the two sides.

    Where the traces have no mean in common, the ambient norm is √(tr Σ), and the value over it is √(1/n₊ + 1/n₋),
    whatever the number of dimensions: 0.47 for 6 traces against 20. A mean that all traces share is in the ambient norm
    and not in Σ, which makes the value smaller.

    It is the root of a mean square: where Σ is spread over many dimensions, nearly every draw of noise comes close to
    it. No other estimator has a larger margin on the same traces, since (μ₊ − μ₋)·d ≤ ‖μ₊ − μ₋‖ for a unit vector d.

    Args:
        residuals: float32 `[n, n_layers, d_model]`, positives first.
        n_pos: positives.

    Returns:
        In the unit of the residuals, float64 `[n_layers]`; NaN for one trace of each class, which show no spread.
    """
    n_neg = len(residuals) - n_pos
    if len(residuals) <= 2:
        return np.full(residuals.shape[1], np.nan)
    squares = np.zeros(residuals.shape[1])
    for side in np.split(residuals, [n_pos]):
        states = side.astype(np.float64)
        squares += ((states - states.mean(axis=0)) ** 2).sum(axis=(0, 2))
    return np.asarray(np.sqrt(squares / (len(residuals) - 2) * (1 / n_pos + 1 / n_neg)))
