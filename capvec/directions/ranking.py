"""Ranking layers, with each in-sample AUC beside its null."""

from __future__ import annotations

import csv
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capvec.directions.auc import auc_of_columns
from capvec.directions.estimate import ambient_norms, mean_difference

PERMUTATIONS = 1000


@dataclass(frozen=True)
class LayerRank:
    """One layer's numbers, as in `ranking.csv`."""

    layer: int
    auc: float
    """In sample: the traces that the direction was built from, projected on it."""
    margin: float
    """mean(pos·d) − mean(neg·d); for the mean difference this is ‖v_L‖."""
    ambient_norm: float
    margin_ratio: float
    n_pos: int
    n_neg: int
    auc_null_p95: float
    """95 % of label permutations, each with its own refitted direction, have an in-sample AUC up to this."""
    p_value: float
    """Share of labellings, the observed one included, whose margin is at least the observed one; not corrected over
    layers."""


@dataclass(frozen=True)
class Ranking:
    """All layers, best first."""

    rows: tuple[LayerRank, ...]

    @property
    def best(self) -> LayerRank:
        return self.rows[0]

    def write_csv(self, path: Path, flags: Sequence[str] = ()) -> None:
        """Write `ranking.csv`.

        Args:
            path: of the file.
            flags: confounds that explain the contrast, in the column `flags` of every row: they are the contrast's.
        """
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, [*LayerRank.__dataclass_fields__, "flags"], lineterminator="\n")
            writer.writeheader()
            writer.writerows({**asdict(row), "flags": ";".join(flags)} for row in self.rows)


def rank_layers(
    positives: NDArray[np.float32], negatives: NDArray[np.float32], *, permutations: int = PERMUTATIONS, seed: int = 0
) -> Ranking:
    """Rank layers by the permutation p-value of their margin, then by margin over ambient norm.

    Not by AUC: in a wide residual stream it is 1 for pure noise too, so it cannot order anything.

    Args:
        positives: float32 `[n_pos, n_layers, d_model]`.
        negatives: float32 `[n_neg, n_layers, d_model]`.
        permutations: of the labels; every one there is, where there are no more than that.
        seed: for drawing them.

    Raises:
        ValueError: as `mean_difference`.
    """
    vectors = mean_difference(positives, negatives).astype(np.float64)
    residuals = np.concatenate([positives, negatives])
    ambient = ambient_norms(residuals)
    labels = label_permutations(len(positives), len(negatives), permutations, seed)
    rows = []
    for layer, vector in enumerate(vectors):
        norm = float(np.linalg.norm(vector))
        scores = residuals[:, layer].astype(np.float64) @ (vector / norm if norm else vector)
        pos, neg = scores[: len(positives)], scores[len(positives) :]
        null_auc, null_margin = permutation_null(residuals[:, layer], labels)
        margin = float(pos.mean() - neg.mean())
        # Equal up to rounding is a tie: two classes of one size, swapped, have the same margin.
        beaten = int((null_margin >= margin * (1 - 1e-9)).sum())
        rows.append(
            LayerRank(
                layer=layer,
                auc=float(auc_of_columns(pos[:, None], neg[:, None])[0]),
                margin=margin,
                ambient_norm=float(ambient[layer]),
                margin_ratio=margin / float(ambient[layer]) if ambient[layer] else 0.0,
                n_pos=len(pos),
                n_neg=len(neg),
                auc_null_p95=float(np.quantile(null_auc, 0.95, method="higher")),
                p_value=(1 + beaten) / (1 + len(labels)),
            )
        )
    return Ranking(tuple(sorted(rows, key=lambda row: (row.p_value, -row.margin_ratio))))


def permutation_null(
    residuals: NDArray[np.float32], labels: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """In-sample AUC and margin of directions refitted under permuted labels.

    With w the weights 1/n₊ on positives and −1/n₋ on negatives, the refitted direction is Xᵀw, so the projections of
    all traces on it are X Xᵀ w and its squared length is wᵀ X Xᵀ w: one Gram matrix serves every permutation.

    Args:
        residuals: float32 `[n, d_model]`, one layer.
        labels: bool `[permutations, n]`, true for positives.

    Returns:
        AUC and margin, `[permutations]` each.
    """
    # w sums to zero, so centring changes nothing but the rounding. Without it a coordinate that is 1000 in every trace,
    # beside a spread of 0.05, moves the margin by 5e-9 of itself, and ties are decided by that.
    states = residuals - residuals.mean(axis=0, dtype=np.float64)
    gram = states @ states.T
    n_pos = int(labels[0].sum())
    weights = np.where(labels, 1 / n_pos, -1 / (labels.shape[1] - n_pos)).T
    projections = gram @ weights
    margins = np.sqrt(np.maximum((weights * projections).sum(axis=0), 0))
    order = np.argsort(~labels, axis=1, kind="stable").T
    sorted_scores = np.take_along_axis(projections, order, axis=0)
    return auc_of_columns(sorted_scores[:n_pos], sorted_scores[n_pos:]), margins


def label_permutations(n_pos: int, n_neg: int, count: int, seed: int) -> NDArray[np.bool_]:
    """Labellings with `n_pos` positives, for traces of which the first `n_pos` are positive.

    All of them but the observed one where there are at most `count`, which makes (1 + beaten) / (1 + permutations)
    exact; else `count` drawn ones, which makes it the estimate of Phipson and Smyth (2010), never 0.

    Returns:
        bool `[permutations, n_pos + n_neg]`.
    """
    n = n_pos + n_neg
    if math.comb(n, n_pos) <= count:
        # The first combination is the observed labelling.
        return _labels(list(combinations(range(n), n_pos))[1:], n)
    rng = np.random.default_rng(seed)
    return _labels([tuple(rng.permutation(n)[:n_pos]) for _ in range(count)], n)


def _labels(chosen: Sequence[Sequence[int]], n: int) -> NDArray[np.bool_]:
    labels = np.zeros((len(chosen), n), dtype=bool)
    for row, positives in zip(labels, chosen, strict=True):
        row[list(positives)] = True
    return labels
