"""Two classes of residuals as `capvec.validate` and `capvec.estimate_direction` take them."""

from __future__ import annotations

import numpy as np

from capvec.directions.estimate import estimate_direction


def labelled(positives, negatives):
    """All residuals, positives first, and which are positives."""
    return np.concatenate([positives, negatives]), np.arange(len(positives) + len(negatives)) < len(positives)


def estimate(positives, negatives, estimator="mean-difference", **more):
    """The vectors of the direction that separates them."""
    return estimate_direction(*labelled(positives, negatives), estimator=estimator, **more).vectors
