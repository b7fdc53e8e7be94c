"""What else tells a contrast's classes apart: the task, the model, the number of steps, the length in tokens.

A direction from a contrast is whatever separates its classes. Where something that is not the skill separates them as
well, the direction may be that, and no AUC of the direction can tell. So the audit asks two questions of each confound.

*Does it separate the classes on its own?* The statistic is an AUC in sample, of the best score that the confound can
give. For a number that is the number or its negative: max(A, 1 − A), with A the Mann–Whitney AUC. For an identity it is
the share of positives of each value, which no other score of the value beats (the likelihood ratio of Neyman and
Pearson). Both are optimistic, the second the more the more values there are: when every trace has a task of its own it
is 1 whatever the labels. So the AUC is never shown without its null: the labels are permuted, the score is chosen
again, and p is the share of labellings, the observed one included, that reach as far (Phipson and Smyth, 2010).
Leaving one out is no way around: a trace's own label, missing from its value's share, biases the AUC below one half.

*Does the direction separate it?* Within the classes, so that the class itself cannot be the reason: for a number
Spearman's correlation with the projection, both ranked and centred within class; for an identity η², the share of the
projection's variance within class that lies between its values, beside what it is under permutation within class.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

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
    """One property of the traces that is not the skill."""

    name: str
    """`task`, `model`, `steps` or `tokens`."""
    values: int
    """Distinct ones in the contrast."""
    shared: int
    """Values that both classes have."""
    auc: float
    """Of the confound alone, in sample, at least 0.5."""
    auc_null_p95: float
    """95 % of label permutations, each with the score chosen again, have an AUC up to this."""
    p_value: float
    more: str
    """The class with the larger numbers, `positives` or `negatives`; empty for an identity, and where neither has."""
    association: tuple[float | None, ...] = ()
    """For each layer: Spearman's correlation (numbers) or η² (identities) with the projection, within class; None where
    one of them does not vary there."""
    association_null: tuple[float, ...] = ()
    """For each layer: its mean over permutations within class, 0 for a correlation."""

    @property
    def is_number(self) -> bool:
        return self.name in {"steps", "tokens"}

    def finding(self) -> str:
        """What was found, as a sentence without its full stop, for a confound that is flagged."""
        how = f", {self.more} having more" if self.more else ", of which they share none" if self.shared == 0 else ""
        return (
            f"{_SUBJECTS[self.name]} alone tells positives from negatives{how}: AUC {self.auc:.3f}, where 95 % of "
            f"label permutations stay at or below {self.auc_null_p95:.3f}, p = {self.p_value:.2g}"
        )

    def in_words(self) -> str:
        """The warning."""
        return f"Flagged `{self.name}`: {self.finding()}. The direction may encode that and not the skill."


@dataclass(frozen=True)
class Audit(Record):
    """All confounds of one contrast, and from where on one is flagged."""

    confounds: tuple[Confound, ...]
    confound_auc: float = Recipe.confound_auc
    confound_p: float = Recipe.confound_p

    def explains(self, confound: Confound) -> bool:
        """Whether the contrast is flagged: the confound alone separates the classes, and not by chance.

        Where it separates them wholly the contrast is flagged at any p. With a task for every trace, or with three
        traces in a class, any labelling might look like that; still nothing in such traces tells the confound from the
        class (there is no overlap, which Rosenbaum and Rubin, 1983, ask for before anything is compared).
        """
        return confound.auc >= self.confound_auc and (confound.p_value < self.confound_p or confound.auc == 1)

    @property
    def flagged(self) -> tuple[Confound, ...]:
        """The confounds that explain the contrast."""
        return tuple(confound for confound in self.confounds if self.explains(confound))

    @property
    def flags(self) -> tuple[str, ...]:
        """Their names."""
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
    """Ask what else separates the classes of a contrast, and what else its direction separates.

    Args:
        contrast: with traces.
        projections: of its traces, positives first, on the direction of each layer: float `[n, n_layers]`.
        tokens: length of each trace, in the same order; None where it is not known, and then it is not asked about.
        recipe: whose `confound_auc` and `confound_p` say what is flagged; None takes the defaults.
        permutations: of the labels.
        seed: for drawing them.

    Raises:
        ValueError: projections or tokens are not of the contrast's traces.
    """
    traces = contrast.traces
    positive = np.arange(len(traces)) < len(contrast.positives)
    numbers: dict[str, Sequence[int]] = {"steps": [trace.steps for trace in traces]}
    if tokens is not None:
        numbers["tokens"] = tokens
    identities = {"task": [trace.task for trace in traces], "model": [trace.model for trace in traces]}
    for name, values in (("projections", projections), ("tokens", tokens)):
        if values is not None and len(values) != len(traces):
            raise ValueError(f"{len(values)} {name} for the {len(traces)} traces of a contrast")
    labels = np.random.default_rng(seed).permuted(np.tile(positive, (permutations, 1)), axis=1)
    confounds = [
        *(_identity(name, codes(values), positive, labels, projections) for name, values in identities.items()),
        *(_number(name, np.asarray(values), positive, labels, projections) for name, values in numbers.items()),
    ]
    limits = recipe or Recipe()
    return Audit(tuple(confounds), limits.confound_auc, limits.confound_p)


def codes(values: Sequence[str]) -> NDArray[np.int64]:
    """Each value as a number from 0."""
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


def _number(
    name: str,
    values: NDArray[np.int64],
    positive: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    projections: NDArray[np.float64] | None,
) -> Confound:
    signed = float(auc_of_rows(values[None], positive[None])[0])
    null = auc_of_rows(values[None], labels)
    return Confound(
        name,
        *_shared(values, positive),
        *_against(max(signed, 1 - signed), np.maximum(null, 1 - null)),
        more="positives" if signed > 0.5 else "negatives" if signed < 0.5 else "",
        association=() if projections is None else correlations(values, projections, positive),
        association_null=() if projections is None else (0.0,) * projections.shape[1],
    )


def _identity(
    name: str,
    values: NDArray[np.int64],
    positive: NDArray[np.bool_],
    labels: NDArray[np.bool_],
    projections: NDArray[np.float64] | None,
) -> Confound:
    observed = float(auc_of_rows(rates(values, positive[None]), positive[None])[0])
    found = ((), ()) if projections is None else eta_squared(values, projections, positive)
    null = auc_of_rows(rates(values, labels), labels)
    return Confound(
        name,
        *_shared(values, positive),
        *_against(observed, null),
        more="",
        association=found[0],
        association_null=found[1],
    )


def rates(values: NDArray[np.int64], labels: NDArray[np.bool_]) -> NDArray[np.float64]:
    """The share of positives among the traces that have a trace's value: `[n]` and `[labellings, n]` → the latter."""
    member = values[:, None] == np.arange(values.max() + 1)
    return np.asarray((labels @ member.astype(np.float64) / member.sum(axis=0))[:, values])


def _against(observed: float, null: NDArray[np.float64]) -> tuple[float, float, float]:
    """The AUC, the 95 % point of its null, and p; equal up to rounding is a tie."""
    beaten = int((null >= observed - 1e-9).sum())
    return observed, float(np.quantile(null, 0.95, method="higher")), (1 + beaten) / (1 + len(null))


def _shared(values: NDArray[np.int64], positive: NDArray[np.bool_]) -> tuple[int, int]:
    return len(np.unique(values)), len(np.intersect1d(values[positive], values[~positive]))


# ------------------------------------------------------------------------------------------------ association


def correlations(
    values: NDArray[np.int64], projections: NDArray[np.float64], positive: NDArray[np.bool_]
) -> tuple[float | None, ...]:
    """Spearman's correlation of a number with each layer's projection, ranked and centred within class.

    Args:
        values: `[n]`.
        projections: `[n, n_layers]`.
        positive: `[n]`.
    """
    columns = np.column_stack([values, projections])
    ranked = np.empty_like(columns)
    for side in (positive, ~positive):
        ranks = stats.rankdata(columns[side], axis=0)
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

    Of k values in a class of n traces, a permutation puts (k − 1)/(n − 1) of the class's sum of squares between them on
    average.

    Args:
        values: `[n]`.
        projections: `[n, n_layers]`.
        positive: `[n]`.
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
