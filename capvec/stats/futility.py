"""Futility: when neither verdict of a config can be expected any more. `is_futile` is the rule.

Two chances are computed at an interim analysis. A config is stopped for futility when both say so:

* its predictive power is below `FUTILE`: the chance of p < level at the final analysis, by the normal approximation,
  given what the data so far say of the effect. This is conditional power [1]_ averaged over the effects that the data
  leave open [2]_, at the level of all comparisons together, the most that Holm's rule may grant; and
* effects beyond the equivalence margin are excluded already, or the chance that the final analysis excludes them is
  below `FUTILE` too. It is 0 where the planned tasks are too few for that (`intervals.reach`).

References:
    .. [1] Lan, Simon and Halperin, Sequential Analysis 1982, 1:207.
    .. [2] Spiegelhalter, Freedman and Blackburn, Controlled Clinical Trials 1986, 7:8.
"""

from __future__ import annotations

import math

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.records import Interval
from capvec.stats.intervals import clustered, reach, unseen_share

FUTILE = 0.1
"""A verdict whose chance is below this is not waited for."""


def chances(
    differences: NDArray[np.floating], pairs: float, planned: int, share: float, level: float, equivalence_margin: float
) -> tuple[float, float]:
    """The chances that the final analysis rejects, and that it excludes effects beyond the equivalence margin.

    Args:
        differences: float [tasks so far], differences in pass rate.
        pairs: pairs of trials for each of these tasks, on average.
        planned: the number of tasks at the final analysis.
        share: t, the share of the planned trials that are recorded.
        level: of all comparisons together.
        equivalence_margin: a difference in pass rate that would matter.

    Returns:
        Both 1 where no task has been compared yet; the second is 1 where such effects are excluded already.
    """
    if not len(differences):
        return 1.0, 1.0  # nothing is known, so nothing is futile
    values = differences.astype(np.float64)
    size = math.sqrt(float(values @ values))
    predictive = predictive_power(float(values.sum()) / size if size else 0.0, share, level)
    interval = clustered(values.tolist(), pairs)
    if reach(interval, len(values)) <= equivalence_margin:
        return predictive, 1.0
    if unseen_share(planned) > equivalence_margin:
        return predictive, 0.0
    return predictive, exclusion_chance(float(values.mean()), interval, share, equivalence_margin)


def predictive_power(z: float, share: float, level: float) -> float:
    """The chance of a two-sided rejection at the final analysis, under a flat prior on the effect.

    The Brownian motion B(t) = z√t ends at a normal value with mean z/√t and variance (1 − t)/t. Analyses between this
    one and the final one are left out of account.

    Args:
        z: the test statistic so far, standard normal under the null.
        share: t, the share of the information, between 0 and 1.
        level: of the two-sided test.
    """
    deviation, centre, end = math.sqrt((1 - share) / share), z / math.sqrt(share), scipy.special.ndtri(level / 2)
    return float(scipy.special.ndtr((end + centre) / deviation) + scipy.special.ndtr((end - centre) / deviation))


def exclusion_chance(difference: float, interval: Interval, share: float, equivalence_margin: float) -> float:
    """The chance that the final 95 % interval lies within ± the equivalence margin, where it does not yet.

    It follows from the flat prior of `predictive_power`: the half-width shrinks by √t until then, and the centre moves
    by a normal step with variance σ²(1 − t), where σ is the present standard error. The formula is capvec's own.
    """
    half = (interval.high - interval.low) / 2
    room = equivalence_margin - half * math.sqrt(share)
    if room <= 0:
        return 0.0
    step = half / float(scipy.special.ndtri(0.975)) * math.sqrt(1 - share)
    return float(scipy.special.ndtr((room - difference) / step) - scipy.special.ndtr((-room - difference) / step))


def is_futile(predictive: float | None, excluding: float | None) -> bool:
    """Whether neither verdict is worth waiting for. One that is reached already (a chance of 1) is not waited for.

    The final analysis, whose chances are None, is never futile.
    """
    if predictive is None or excluding is None:
        return False
    return predictive < FUTILE and (excluding < FUTILE or excluding == 1.0)
