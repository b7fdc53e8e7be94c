"""Confounds of a contrast: the task, the model, the number of steps and the length in tokens.

A direction built from a contrast is what separates its two classes. If a confound separates them as well, the direction
may encode the confound, and no AUC of the direction shows which. The audit asks two questions of each confound.

*Does the confound separate the classes on its own?* The statistic is the in-sample AUC of the best score that the
confound can give. A number scores by itself or by its negative: max(A, 1 − A), where A is the Mann–Whitney AUC. An
identity scores by the share of positives among the traces of its value, which is the best score of a value (the
likelihood ratio of Neyman and Pearson). Both are optimistic; the second more so with more values: if every trace has a
task of its own, it is 1 under any labels. Therefore the AUC always comes with its null. Labels are permuted, the score
is chosen again, and p is the share of labellings, the observed one included, with an AUC at least as large (Phipson and
Smyth, 2010). Leave-one-out scores do not help: without the trace's own label in its value's share, the AUC is biased
below one half.

*Does the direction separate the confound?* This is measured within the classes, so that the class cannot be the reason:
for a number, Spearman's correlation with the projection, both ranked and centred within class; for an identity, η², the
share of the within-class variance of the projection that lies between values, and its mean under permutation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.directions.auc import auc_of_rows
from capvec.directions.contrast import Contrast
from capvec.directions.recipe import Recipe
from capvec.serial import Record

PERMUTATIONS = 9999
_SUBJECTS = {
    "task": "the task",
    "model": "the model that acted",
    "steps": "the number of steps",
    "tokens": "the length in tokens",
}


@dataclass(frozen=True)
class Confound(Record):
    """One property of the traces other than the skill."""

    name: str
    """`task`, `model`, `steps` or `tokens`."""
    values: int
    """Number of distinct values in the contrast."""
    shared: int
    """Number of values that occur in both classes."""
    auc: float
    """In-sample AUC of the confound alone, at least 0.5."""
    auc_null_p95: float
    """95 % of label permutations, each with the score chosen again, have an AUC of at most this."""
    p_value: float
    more: str
    """The class with the larger numbers, `positives` or `negatives`; empty for an identity and for equal classes."""
    association: tuple[float | None, ...] = ()
    """Of each layer: Spearman's correlation (numbers) or η² (identities) with the projection, within class; None where
    the number or the projection does not vary."""
    association_null: tuple[float, ...] = ()
    """Of each layer: the mean of `association` over permutations within class, 0 for a correlation."""

    @property
    def is_number(self) -> bool:
        return self.name in {"steps", "tokens"}

    def finding(self) -> str:
        """A sentence without its full stop that says how a flagged confound separates the classes."""
        how = f" ({self.more} have more)" if self.more else " (they have none in common)" if self.shared == 0 else ""
        return (
            f"{_SUBJECTS[self.name]} alone tells positives from negatives{how}: AUC {self.auc:.3f}, p = "
            f"{self.p_value:.2g}; 95 % of label permutations reach at most {self.auc_null_p95:.3f}"
        )

    def in_words(self) -> str:
        """The warning for a flagged confound; it begins with `marker`."""
        return f"{self.marker} {self.finding()}. The direction may encode this confound instead of the skill."

    @property
    def marker(self) -> str:
        """The beginning of the warning, by which a list of caveats shows it."""
        return f"Flagged `{self.name}`:"


@dataclass(frozen=True)
class Audit(Record):
    """The confounds of one contrast, and the thresholds above which one is flagged."""

    confounds: tuple[Confound, ...]
    confound_auc: float = Recipe.confound_auc
    confound_p: float = Recipe.confound_p

    def explains(self, confound: Confound) -> bool:
        """Whether the confound is flagged: alone, it separates the classes, and not by chance.

        A confound that separates them completely is flagged at any p. With a task of its own for every trace, or with
        three traces in a class, every labelling may look like that. Even so, nothing in such traces tells the confound
        from the class: they lack the overlap that Rosenbaum and Rubin (1983) require of a comparison.
        """
        return confound.auc >= self.confound_auc and (confound.p_value < self.confound_p or confound.auc == 1)

    @property
    def flagged(self) -> tuple[Confound, ...]:
        """The confounds that may explain the contrast."""
        return tuple(confound for confound in self.confounds if self.explains(confound))

    @property
    def flags(self) -> tuple[str, ...]:
        """Names of the flagged confounds."""
        return tuple(confound.name for confound in self.flagged)


def audit_contrast(
    contrast: Contrast,
    projections: NDArray[np.float64] | None = None,
    tokens: Sequence[int] | None = None,
    *,
    recipe: Recipe | None = None,
    permutations: int = PERMUTATIONS,
    seed: int = 0,
) -> Audit:
    """Measure how well each confound separates the classes, and how well the direction separates the confound.

    Args:
        contrast: has n traces.
        projections: projection of each trace on the direction of each layer, positives first, float `[n, n_layers]`;
            None leaves out the associations.
        tokens: length of each trace in tokens, `[n]`, in the same order; None leaves out this confound.
        recipe: its `confound_auc` and `confound_p` are the thresholds; None takes the defaults.
        permutations: number of permutations of the labels.
        seed: for drawing them.

    Raises:
        ValueError: not one row of projections or one length for each trace.
    """
    traces = contrast.traces
    positive = np.arange(len(traces)) < len(contrast.positives)
    identities = {
        "task": codes([trace.task for trace in traces]),
        "model": codes([trace.model for trace in traces]),
    }
    numbers = {"steps": np.array([trace.steps for trace in traces])}
    if tokens is not None:
        numbers["tokens"] = np.asarray(tokens)
    for name, values in (("projections", projections), ("tokens", tokens)):
        if values is not None and len(values) != len(traces):
            raise ValueError(f"{len(values)} {name} for the {len(traces)} traces of a contrast")
    labels = np.random.default_rng(seed).permuted(np.tile(positive, (permutations, 1)), axis=1)
    confounds = [
        _confound(name, values, positive, labels, projections, number=name in numbers)
        for name, values in {**identities, **numbers}.items()
    ]
    limits = recipe or Recipe()
    return Audit(tuple(confounds), limits.confound_auc, limits.confound_p)


def codes(values: Sequence[str]) -> NDArray[np.int64]:
    """Number the distinct values from 0."""
    return np.asarray(np.unique(values, return_inverse=True)[1], dtype=np.int64)


def project(residuals: NDArray[np.float32], vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """⟨h_L, d_L⟩ for every trace and layer, 0 where v_L is zero.

    Args:
        residuals: float32 `[n, n_layers, d_model]`.
        vectors: v_L, float32 `[n_layers, d_model]`.

    Returns:
        float64 `[n, n_layers]`.
    """
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1, keepdims=True)
    unit = vectors / np.where(lengths == 0, 1, lengths)
    return np.stack([residuals[:, layer].astype(np.float64) @ d for layer, d in enumerate(unit)], axis=1)


# ------------------------------------------------------------------------------------------------ separation


def _confound(
    name: str,
    values: NDArray[np.int64],
    positive: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    projections: NDArray[np.float64] | None,
    *,
    number: bool,
) -> Confound:
    """Values that are equal up to rounding are ties with the null."""

    def aucs(rows: NDArray[np.bool_]) -> NDArray[np.float64]:
        return auc_of_rows(values[None] if number else rates(values, rows), rows)

    signed, null = float(aucs(positive[None])[0]), aucs(labels)
    observed, null = max(signed, 1 - signed), np.maximum(null, 1 - null)
    associations: tuple[tuple[float | None, ...], tuple[float, ...]] = (), ()
    if projections is not None and number:
        associations = correlations(values, projections, positive), (0.0,) * projections.shape[1]
    elif projections is not None:
        associations = eta_squared(values, projections, positive)
    return Confound(
        name,
        values=len(np.unique(values)),
        shared=len(np.intersect1d(values[positive], values[~positive])),
        auc=observed,
        auc_null_p95=float(np.quantile(null, 0.95, method="higher")),
        p_value=(1 + int((null >= observed - 1e-9).sum())) / (1 + len(null)),
        more="" if not number or signed == 0.5 else "positives" if signed > 0.5 else "negatives",
        association=associations[0],
        association_null=associations[1],
    )


def rates(values: NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of positives among the traces of the same value, `[B, n]`; labels `[B, n]`, values from 0, `[n]`."""
    member = values[:, None] == np.arange(values.max() + 1)
    return np.asarray((labels @ member.astype(np.float64) / member.sum(axis=0))[:, values])


# ------------------------------------------------------------------------------------------------ association


def correlations(
    values: NDArray[np.int64], projections: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[float | None, ...]:
    """Spearman's correlation of values `[n]` with projections `[n, n_layers]`, ranked and centred within class."""
    columns = np.column_stack([values, projections])
    ranked = np.empty_like(columns)
    for side in (positive, ~positive):
        ranks = scipy.stats.rankdata(columns[side], axis=0)
        ranked[side] = ranks - ranks.mean(axis=0)
    number, layers = ranked[:, 0], ranked[:, 1:]
    lengths = np.sqrt((number**2).sum() * (layers**2).sum(axis=0))
    return tuple(
        float(product / length) if length > 0 else None
        for product, length in zip(number @ layers, lengths, strict=True)
    )


def eta_squared(
    values: NDArray[np.int64], projections: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[tuple[float | None, ...], tuple[float, ...]]:
    """η² of an identity for each layer's projection within class, and its mean over permutations within class.

    With k values in a class of n traces, (k − 1)/(n − 1) of the class's sum of squares lies between the values, on
    average over permutations.
    """
    total, between, expected = (np.zeros(projections.shape[1]) for _ in range(3))
    for side in (positive, ~positive):
        centred = projections[side] - projections[side].mean(axis=0)
        member = values[side][:, None] == np.unique(values[side])
        squares = (centred**2).sum(axis=0)
        total += squares
        between += ((member.T.astype(np.float64) @ centred) ** 2 / member.sum(axis=0)[:, None]).sum(axis=0)
        if len(centred) > 1:
            expected += squares * (member.shape[1] - 1) / (len(centred) - 1)
    varied = total > 0
    shares = between / np.where(varied, total, 1)
    return (
        tuple(float(share) if some else None for share, some in zip(shares, varied, strict=True)),
        tuple((expected / np.where(varied, total, 1)).tolist()),
    )
