"""Building a direction from traces: the contrast, its residuals, the direction, its validation and its audit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from capvec.directions.activations import Activations, cached_activations
from capvec.directions.audit import Audit, audit_contrast, project
from capvec.directions.contrast import Contrast, select_contrast
from capvec.directions.direction import Direction
from capvec.directions.estimate import directions, estimate_direction
from capvec.directions.estimators import METHODS
from capvec.directions.labels import Labellings
from capvec.directions.permute import choose_scheme, others
from capvec.directions.ranking import Ranking
from capvec.directions.recipe import Recipe
from capvec.directions.validate import validate
from capvec.errors import UsageError
from capvec.records import Trace


@dataclass(frozen=True, eq=False)
class BuiltDirection:
    """A direction built from traces, with its validation and its audit."""

    direction: Direction
    ranking: Ranking
    contrast: Contrast
    audit: Audit
    activations: Activations
    """Of the contrast's traces, positives first."""
    shuffled: tuple[Direction, ...] = ()
    """Built in the same way under labels permuted as for the null, each layer scaled to the real one's length."""

    def warnings(self) -> list[str]:
        """Confounds that explain the contrast, and counts that are not known, as sentences."""
        flagged = [confound.in_words() for confound in self.audit.flagged]
        return [*flagged, *filter(None, [self.contrast.record().unknown_in_words()])]


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
    reference: NDArray[np.float32] | None = None,
) -> BuiltDirection:
    """Choose the contrast, capture its residuals unless they are cached, estimate and validate.

    Args:
        traces: from which the recipe selects.
        recipe: the contrast, the estimator and the number of permutations.
        model: name of the model to steer.
        identity: everything about the engine that changes residuals: model, revision, dtype, context.
        capture: captures the residuals of traces, in their order.
        cache: folder of captured residuals, created when needed; None keeps none.
        shuffled: number of directions to build under permuted labels.
        seed: for the permutations.
        reference: another direction, `[n_layers, d_model]`; the ranking then has the cosine with it.

    Raises:
        UsageError: as `select_contrast`; or the traces are too few for so many shuffled directions; or the reference
            does not fit the model.
    """
    chosen = select_contrast(recipe, traces, model)
    n_pos, n_neg = len(chosen.positives), len(chosen.negatives)
    tasks, rewards = [trace.task for trace in chosen.traces], [trace.reward or 0.0 for trace in chosen.traces]
    shuffles = _control_labels(Labellings.observed(n_pos, n_neg, tasks, rewards), shuffled, seed)
    conversations = [trace.messages for trace in chosen.traces]
    key = f"{identity} {recipe.pooling}"
    activations = cached_activations(conversations, key, lambda: capture(chosen.traces), cache)
    residuals = activations.residuals
    if reference is not None and reference.shape != residuals.shape[1:]:
        raise UsageError(
            f"--reference: a direction of shape {list(reference.shape)}; the model needs {list(residuals.shape[1:])}"
        )
    labels = np.arange(n_pos + n_neg) < n_pos
    direction = estimate_direction(residuals, labels, tasks=tasks, estimator=recipe.estimator, rewards=rewards)
    ranking = validate(
        residuals,
        labels,
        tasks=tasks,
        estimator=recipe.estimator,
        rewards=rewards,
        permutations=recipe.permutations,
        seed=seed,
        reference=reference,
    )
    return BuiltDirection(
        direction=direction,
        ranking=ranking,
        contrast=chosen,
        audit=audit_contrast(chosen, project(residuals, direction.vectors), activations.tokens, recipe=recipe),
        activations=activations,
        shuffled=tuple(
            _as_long_as(direction, vectors) for vectors in directions(residuals, shuffles, METHODS[recipe.estimator])
        ),
    )


def _control_labels(observed: Labellings, count: int, seed: int) -> Labellings:
    try:
        return others(observed, choose_scheme(observed), count, seed)
    except ValueError as error:
        n_pos = int(observed.labels.sum())
        raise UsageError(
            f"--controls shuffled:{count}: {n_pos} positive and {observed.labels.size - n_pos} negative traces allow "
            f"{error}; ask for fewer, or bring more traces"
        ) from error


def _as_long_as(direction: Direction, vectors: NDArray[np.float32]) -> Direction:
    lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
    scaled = vectors * (direction.norms / np.where(lengths == 0, 1, lengths))[:, None]
    return Direction(scaled.astype(np.float32), direction.ambient_norm)
