"""Two classes of residuals as `capvec.directions.validate` takes them."""

from __future__ import annotations

import numpy as np


def labelled(positives, negatives):
    """All residuals, positives first, and which are positives."""
    return np.concatenate([positives, negatives]), np.arange(len(positives) + len(negatives)) < len(positives)
