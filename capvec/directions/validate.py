"""Validating a direction before any trial: each layer against its permutation null, and on tasks left out."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from capvec.directions.auc import auc_of_rows
from capvec.directions.auc_interval import auc_interval
from capvec.directions.estimate import ambient_norms
from capvec.directions.estimators import METHODS, Method
from capvec.directions.fit import centred_states, fit
from capvec.directions.folds import Part, cross_fitted_scores, group_tasks, parts, refit_cosines, why_not
from capvec.directions.labels import Labellings, positives_first
from capvec.directions.noise_margin import noise_margins
from capvec.directions.permute import choose_scheme, permuted
from capvec.directions.ranking import LayerRank, Ranking
from capvec.directions.recipe import EstimatorName

PERMUTATIONS = 10_000
"""Of the labels, where no other number is asked for."""
CHUNK = 2000
"""Labellings in one batch: bounds the memory."""
MOST_THREADS = 8
"""At once: with more, Python itself would be the bound."""
_TIE = 1e-7
"""Statistics closer than this, in standard deviations of the null, count as equal: rounding alone sets them apart."""


def validate(
    residuals: NDArray[np.float32],
    labels: ArrayLike,
    *,
    tasks: Sequence[str] | None = None,
    estimator: EstimatorName = "mean-difference",
    rewards: Sequence[float] | None = None,
    permutations: int | None = None,
    seed: int = 0,
    reference: NDArray[np.float32] | None = None,
) -> Ranking:
    """Test the direction of every layer against a permutation null, and rank the layers.

    The direction is estimated from the residuals, as `estimate_direction` does. The null permutes the labels
    (`permute.Scheme` says among which traces) and repeats everything under each permutation, the estimate and the
    cross-fitting included. Its test statistic is the margin: the in-sample AUC is 1 under nearly every labelling where
    a residual has more dimensions than there are traces. p = (1 + b)/(1 + B), where the margin under b of B
    permutations is at least the observed one (Phipson and Smyth, 2010).

    The correction over layers compares the largest margin over layers, each in standard deviations from its layer's
    mean over all labellings, the observed one included (Westfall and Young, 1993, the single-step maxT). This treats
    all labellings alike, so the corrected p of the best layer is as exact as the others.

    Args:
        residuals: float32 `[n, n_layers, d_model]`, one pooled residual for each trace and layer.
        labels: bool `[n]`, true for positives.
        tasks: name of each trace's task, `[n]`; whole tasks are left out in cross-fitting, and labels are permuted
            within them. None takes each trace for a task of its own.
        estimator: of the direction; refitted under every labelling.
        rewards: of each trace, `[n]`, for `ridge`; None takes 1 for positives and 0 for negatives.
        permutations: number of permutations of the labels; if there are no more than that, all of them are used. None
            takes 10,000.
        seed: for drawing the permutations.
        reference: another direction, `[n_layers, d_model]`; the ranking then has the cosine with it.

    Returns:
        One row for each layer, best first, with the AUC in sample and cross-fitted, their nulls, p-values and the
        stability of the direction.

    Raises:
        ValueError: an empty class; not one label, task and reward for each trace; or a shape is another one.

    Example:
        >>> import numpy as np
        >>> rng = np.random.default_rng(0)
        >>> labels = np.arange(24) % 2 == 0
        >>> residuals = rng.standard_normal((24, 3, 16)).astype(np.float32)
        >>> residuals[labels, 1] += 2  # layer 1 tells the classes apart
        >>> ranking = validate(residuals, labels, permutations=199)
        >>> ranking.best.layer, ranking.found()
        (1, True)
    """
    residuals, n_pos, tasks, rewards = positives_first(residuals, labels, tasks, rewards)
    if reference is not None and reference.shape != residuals.shape[1:]:
        raise ValueError(f"a reference of shape {reference.shape}; expected {residuals.shape[1:]}")
    method = METHODS[estimator]
    observed = Labellings.observed(n_pos, len(residuals) - n_pos, tasks, rewards if method.uses_rewards else None)
    scheme = choose_scheme(observed)
    labellings = permuted(observed, scheme, PERMUTATIONS if permutations is None else permutations, seed)
    folds = group_tasks(observed.tasks)
    problem = why_not(observed.labels[0], folds)
    null = _null(residuals, labellings, None if problem else folds, method)
    rows = []
    ambient, noise = ambient_norms(residuals), noise_margins(residuals, n_pos)
    p_values = zip(*margin_p_values(null.margins), strict=True)
    for layer, (own, corrected) in enumerate(p_values):
        length = float(ambient[layer])
        row = LayerRank(
            layer=layer,
            auc=float(null.aucs[layer, 0]),
            margin=float(null.margins[layer, 0]),
            ambient_norm=length,
            margin_ratio=float(null.margins[layer, 0]) / length if length else 0.0,
            **_ratios_of_chance(null.margins[layer], float(noise[layer]), length),
            n_pos=n_pos,
            n_neg=len(residuals) - n_pos,
            auc_null_p95=_p95(null.aucs[layer]),
            **_cross_fitted(null.cv_aucs[layer], null.scores[layer], observed, bool(problem)),
            p_value=float(own),
            p_corrected=float(corrected),
            **_cosines(
                centred_states(residuals, layer), observed, method, None if reference is None else reference[layer]
            ),
        )
        rows.append(row)
    return Ranking(
        tuple(sorted(rows, key=lambda row: (row.p_corrected, row.p_value, -(row.cv_auc or 0), -row.margin_ratio))),
        estimator=method.words,
        null=f"{len(labellings.labels) - 1:,} permutations of the labels {scheme}",
        folds=f"not cross-fitted: {problem}" if problem else _fold_words(folds, observed.tasks),
    )


@dataclass(frozen=True, eq=False)
class _Null:
    """Every layer under every labelling, the observed one first: `[n_layers, 1 + B]`."""

    margins: NDArray[np.float64]
    aucs: NDArray[np.float64]
    cv_aucs: NDArray[np.float64]
    """NaN without cross-fitting."""
    scores: NDArray[np.float64]
    """Cross-fitted, under the observed labelling, `[n_layers, n]`."""


def _null(
    residuals: NDArray[np.float32], labellings: Labellings, folds: NDArray[np.int64] | None, method: Method
) -> _Null:
    n, n_layers, d_model = residuals.shape
    stacked = [centred_states(residuals, layer) for layer in range(n_layers)]
    grams = [states @ states.T for states in stacked]
    shape = (n_layers, len(labellings.labels))
    null = _Null(np.empty(shape), np.empty(shape), np.full(shape, np.nan), np.full((n_layers, n), np.nan))
    with ThreadPoolExecutor(min(os.cpu_count() or 1, MOST_THREADS)) as pool:
        for start in range(0, shape[1], CHUNK):
            rows = slice(start, start + CHUNK)
            chunk = labellings.rows(rows)
            held_out = parts(chunk, folds) if folds is not None else []

            def fill(
                layer: int, rows: slice = rows, chunk: Labellings = chunk, held_out: list[Part] = held_out
            ) -> None:
                fits = fit(grams[layer], chunk, method, d_model)
                null.margins[layer, rows] = fits.margins
                null.aucs[layer, rows] = auc_of_rows(fits.projections, chunk.labels)
                if held_out:
                    scores = cross_fitted_scores(grams[layer], held_out, method, d_model)
                    null.cv_aucs[layer, rows] = auc_of_rows(scores, chunk.labels)
                    if rows.start == 0:
                        null.scores[layer] = scores[0]

            list(pool.map(fill, range(n_layers)))
    return null


def margin_p_values(margins: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """P of each layer, and p corrected over layers.

    Args:
        margins: `[n_layers, 1 + B]`, of the observed labelling and of B permutations.

    Returns:
        Both `[n_layers]`.
    """
    spread = margins.std(axis=1, keepdims=True)
    # Where every labelling has the same margin, rounding alone would decide; such a layer gets p = 1.
    flat = spread <= 1e-12 * np.abs(margins).max(axis=1, keepdims=True)
    scores = np.where(flat, 0, (margins - margins.mean(axis=1, keepdims=True)) / np.where(flat, 1, spread))
    reached = scores[:, :1] - _TIE
    return (scores >= reached).mean(axis=1), (scores.max(axis=0) >= reached).mean(axis=1)


def _ratios_of_chance(margins: NDArray[np.float64], noise: float, ambient: float) -> dict[str, float | None]:
    """The null of the margin over ambient norm, and that of noise; 0 where every residual is zero."""
    ratios = margins / ambient if ambient else np.zeros_like(margins)
    return {
        "margin_ratio_null_mean": float(ratios[1:].mean()),
        "margin_ratio_null_p95": _p95(ratios),
        "margin_ratio_noise": None if np.isnan(noise) else noise / ambient if ambient else 0.0,
    }


def _cross_fitted(
    aucs: NDArray[np.float64], scores: NDArray[np.float64], observed: Labellings, missing: bool
) -> dict[str, float | None]:
    names = ("cv_auc", "cv_auc_low", "cv_auc_high", "cv_auc_null_p95", "cv_p_value")
    if missing:
        return dict.fromkeys(names)
    interval = auc_interval(scores, observed.labels[0], observed.tasks)
    # AUCs are multiples of 1/(2·n₊·n₋), so values that are closer than this are equal.
    p_value = float((aucs >= aucs[0] - 1e-9).mean())
    return dict(zip(names, (float(aucs[0]), interval.low, interval.high, _p95(aucs), p_value), strict=True))


def _p95(values: NDArray[np.float64]) -> float:
    return float(np.quantile(values[1:], 0.95, method="higher"))


def _cosines(
    states: NDArray[np.float64], observed: Labellings, method: Method, reference: NDArray[np.float32] | None
) -> dict[str, float | None]:
    """Of the direction with its refits without a task, and with the reference."""
    gram = states @ states.T
    refits = refit_cosines(gram, observed, method, states.shape[1])
    cosine = None
    if reference is not None and (length := float(np.linalg.norm(reference.astype(np.float64)))):
        unit = fit(gram, observed, method, states.shape[1]).weights[0] @ states
        cosine = float(unit @ reference.astype(np.float64)) / length
    return {
        "stability_min": float(refits.min()) if refits.size else None,
        "stability_mean": float(refits.mean()) if refits.size else None,
        "reference_cosine": cosine,
    }


def _fold_words(folds: NDArray[np.int64], tasks: NDArray[np.int64]) -> str:
    n_folds, n_tasks = len(np.unique(folds)), len(np.unique(tasks))
    if n_folds == n_tasks:
        return f"cross-fitted leaving out one of {n_tasks} tasks at a time"
    return f"cross-fitted leaving out one of {n_folds} groups of {n_tasks} tasks at a time"
