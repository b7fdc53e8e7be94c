"""Refits without some tasks: cross-fitted scores, and the stability of the direction."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from capvec.directions.blocks import product
from capvec.directions.estimators import Method
from capvec.directions.fit import fit, recentred, unit_scales
from capvec.directions.labels import Labellings

MAX_FOLDS = 20


def group_tasks(tasks: NDArray[np.int64], at_most: int = MAX_FOLDS) -> NDArray[np.int64]:
    """The fold of each trace, `[n]`: whole tasks, one a fold, or grouped into `at_most` folds of about equal size.

    Tasks go from the largest to the smallest, each to the fold with the fewest traces. Labels are not used, so permuted
    labels are treated as the observed ones are.
    """
    _, numbers, sizes = np.unique(tasks, return_inverse=True, return_counts=True)
    load = np.zeros(min(at_most, len(sizes)), dtype=np.int64)
    fold_of = np.empty(len(sizes), dtype=np.int64)
    for task in np.argsort(-sizes, kind="stable"):
        fold_of[task] = np.argmin(load)
        load[fold_of[task]] += sizes[task]
    return np.asarray(fold_of[numbers])


def why_not(labels: NDArray[np.bool_], folds: NDArray[np.int64]) -> str:
    """Why a labelling cannot be cross-fitted, in words; empty if both classes occur outside of every fold."""
    if len(np.unique(folds)) < 2:
        return "all traces are of one task"
    for of_class, name in ((labels, "positives"), (~labels, "negatives")):
        if len(np.unique(folds[of_class])) < 2:
            return f"all {name} are in one fold of tasks, and without it there are none to fit to"
    return ""


@dataclass(frozen=True, eq=False)
class Part:
    """What is fitted when one fold is held out."""

    held: NDArray[np.bool_]
    """`[n]`, true for traces of the fold."""
    usable: NDArray[np.bool_]
    """`[B]`: labellings with both classes outside of the fold."""
    labellings: Labellings
    """The usable ones, of the traces outside."""


def parts(labellings: Labellings, folds: NDArray[np.int64]) -> list[Part]:
    """One for each fold; made once, as they serve every layer."""
    found = []
    for fold in np.unique(folds):
        held = folds == fold
        outside = labellings.of(~held)
        found.append(Part(held, outside.two_classes, outside.rows(outside.two_classes)))
    return found


def cross_fitted_scores(
    gram: NDArray[np.float64], parts: list[Part], method: Method, d_model: int
) -> NDArray[np.float64]:
    """Scores `[B, n]` of each trace on the unit direction fitted without its fold, from the mean of those fitted to.

    Scores of different folds are compared with each other, so they need a common origin. The mean of the class means
    would not do: in pure noise of total variance V it lies V/2·(1/n₊ − 1/n₋) along μ₊ − μ₋ on average, which changes
    when a positive is held out, in a wide residual by more than the scores vary. The mean of all traces
    has no such offset, as it does not correlate with μ₊ − μ₋. (On this bias: Parker, Günter and Bedo, BMC
    Bioinformatics 8, 2007.) Where a permuted labelling has only one class outside of a fold, there is no direction, and
    the scores of the fold are 0.
    """
    scores = np.zeros((len(gram), len(parts[0].usable))).T
    for part in parts:
        kept = ~part.held
        around = recentred(gram, kept)
        inside = around[np.ix_(kept, kept)]
        weights = method.weights(inside, part.labellings, d_model)
        scales, _ = unit_scales(weights, product(weights, inside), part.labellings)
        found = product(weights, around[np.ix_(kept, part.held)]) * scales[:, None]
        scores[np.ix_(part.usable, part.held)] = found
    return scores


def refit_cosines(gram: NDArray[np.float64], observed: Labellings, method: Method, d_model: int) -> NDArray[np.float64]:
    """Cosines of the direction with those fitted without one task, `[tasks]`.

    A task that holds all traces of a class is left out.
    """
    whole = fit(gram, observed, method, d_model).projections[0]
    cosines = []
    for part in parts(observed, observed.tasks):
        if part.usable[0]:
            inside = np.ix_(~part.held, ~part.held)
            weights = fit(recentred(gram, ~part.held)[inside], part.labellings, method, d_model).weights[0]
            # These traces are centred on their mean; centring the weights instead gives the same direction.
            cosines.append(float((weights - weights.mean()) @ whole[~part.held]))
    return np.array(cosines)
