"""From traces to a direction, capturing each contrast once."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capvec.directions.activations import Activations, cached_activations
from capvec.directions.audit import Audit, audit_contrast, project
from capvec.directions.contrast import Contrast, select_contrast
from capvec.directions.estimate import ambient_norms, mean_difference
from capvec.directions.ranking import Ranking, rank_layers
from capvec.directions.recipe import Recipe
from capvec.directions.record import Direction
from capvec.errors import UsageError
from capvec.records import Trace


@dataclass(frozen=True, eq=False)
class BuiltDirection:
    """A direction with everything that speaks for or against it."""

    direction: Direction
    ranking: Ranking
    contrast: Contrast
    audit: Audit
    activations: Activations
    """Of the contrast's traces, positives first."""
    shuffled: tuple[Direction, ...] = ()
    """Built in the same way under permuted labels, each layer scaled to the real one's length."""

    def warnings(self) -> list[str]:
        """What the choice of traces itself warns of: confounds that explain the contrast, counts that are not known."""
        flagged = [confound.in_words() for confound in self.audit.confounds if confound.explains]
        return [*flagged, *filter(None, [self.contrast.unknown_in_words()])]


def build_direction(
    traces: Sequence[Trace],
    *,
    recipe: Recipe,
    model: str,
    identity: str,
    capture: Callable[[Sequence[Trace]], Activations],
    cache: Path | None,
    shuffled: int = 0,
    seed: int = 0,
) -> BuiltDirection:
    """Choose the contrast, capture its residuals unless they are cached, and estimate.

    Args:
        traces: whatever was read.
        recipe: which traces are set against which, and the pooling that `capture` takes.
        model: name of the model that is steered.
        identity: whatever changes residuals about the engine: model, revision, dtype, context.
        capture: gives the residuals of traces, in order.
        cache: folder of captured residuals, created when needed; None keeps none.
        shuffled: directions to build under permuted labels.
        seed: of the permutations.

    Raises:
        UsageError: as `select_contrast`; or the traces are too few for so many shuffled directions.
    """
    chosen = select_contrast(recipe, traces, model)
    orders = _shuffles(len(chosen.positives), len(chosen.negatives), shuffled, seed)
    conversations = [trace.messages for trace in chosen.traces]
    key = f"{identity} {recipe.pooling}"
    activations = cached_activations(conversations, key, lambda: capture(chosen.traces), cache)
    n_pos = len(chosen.positives)
    residuals = activations.residuals
    direction = Direction(mean_difference(residuals[:n_pos], residuals[n_pos:]), ambient_norms(residuals))
    return BuiltDirection(
        direction=direction,
        ranking=rank_layers(residuals[:n_pos], residuals[n_pos:], seed=seed),
        contrast=chosen,
        audit=audit_contrast(chosen, project(residuals, direction.vectors), activations.tokens),
        activations=activations,
        shuffled=tuple(_shuffled(residuals, order, n_pos, direction) for order in orders),
    )


def _shuffles(n_pos: int, n_neg: int, count: int, seed: int) -> list[NDArray[np.int64]]:
    """Orders of the traces that put different ones among the first `n_pos`, each time, and never the real positives.

    With few traces a blind draw would now and then be the real labelling: a control that is the treatment.
    """
    if (others := math.comb(n_pos + n_neg, n_pos) - (2 if n_pos == n_neg else 1)) < count:
        raise UsageError(
            f"--controls shuffled:{count}: {n_pos} positive and {n_neg} negative traces can be relabelled in {others} "
            "other ways; ask for fewer, or bring more traces"
        )
    rng = np.random.default_rng(seed)
    taken = {frozenset(range(n_pos))}
    if n_pos == n_neg:
        taken.add(frozenset(range(n_pos, n_pos + n_neg)))  # swapping the classes whole is the control `flip`
    orders: list[NDArray[np.int64]] = []
    while len(orders) < count:
        order = rng.permutation(n_pos + n_neg)
        if (positives := frozenset(order[:n_pos].tolist())) not in taken:
            taken.add(positives)
            orders.append(order)
    return orders


def _shuffled(residuals: NDArray[np.float32], order: NDArray[np.int64], n_pos: int, direction: Direction) -> Direction:
    vectors = mean_difference(residuals[order[:n_pos]], residuals[order[n_pos:]]).astype(np.float64)
    lengths = np.linalg.norm(vectors, axis=1)
    vectors *= (direction.norms / np.where(lengths == 0, 1, lengths))[:, None]
    return Direction(vectors.astype(np.float32), direction.ambient_norm)
