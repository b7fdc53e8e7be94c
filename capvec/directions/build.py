"""From traces to a direction, capturing each contrast once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.directions.audit import Audit, audit_contrast, project
from capvec.directions.contrast import Contrast, select_contrast
from capvec.directions.estimate import ambient_norms, directions, estimate
from capvec.directions.estimators import METHODS
from capvec.directions.labels import Labellings
from capvec.directions.permute import choose_scheme, others
from capvec.directions.ranking import Ranking
from capvec.directions.recipe import Recipe
from capvec.directions.record import Direction
from capvec.directions.validate import validate
from capvec.errors import UsageError
from capvec.records import Message, Trace

_CACHE_VERSION = 2
"""Raised when the same conversation is captured differently: since 2, with a generation prompt after no reply."""


@dataclass(frozen=True, eq=False)
class Activations:
    """Residuals of traces."""

    residuals: NDArray[np.float32]
    """float32 `[n, n_layers, d_model]`."""
    position: str
    """Which token they were taken at."""
    truncated_tokens: tuple[int, ...]
    """Tokens cut from the left of each trace to fit the model's context."""


@dataclass(frozen=True, eq=False)
class BuiltDirection:
    """A direction with everything that speaks for or against it."""

    direction: Direction
    ranking: Ranking
    contrast: Contrast
    audit: Audit
    position: str
    truncated_tokens: tuple[int, ...]
    shuffled: tuple[Direction, ...] = ()
    """Built in the same way under labels permuted as for the null, each layer scaled to the real one's length."""

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
    position: str,
    capture: Callable[[Sequence[Trace]], Activations],
    cache: Path,
    shuffled: int = 0,
    seed: int = 0,
    reference: NDArray[np.float32] | None = None,
) -> BuiltDirection:
    """Choose the contrast, capture its residuals unless they are cached, estimate and validate.

    Args:
        traces: whatever was read.
        recipe: which traces are set against which, by what estimator, against how many permutations.
        model: name of the model that is steered.
        identity: whatever changes residuals about the engine: model, revision, dtype, context.
        position: the token that `capture` takes.
        capture: gives the residuals of traces, in order.
        cache: folder of captured residuals; created when needed.
        shuffled: directions to build under permuted labels.
        seed: of the permutations.
        reference: another direction, `[n_layers, d_model]`, to tell the cosine with.

    Raises:
        UsageError: as `select_contrast`; or the traces are too few for so many shuffled directions; or the reference
            does not fit the model.
    """
    chosen = select_contrast(recipe, traces, model)
    n_pos, n_neg = len(chosen.positives), len(chosen.negatives)
    tasks, rewards = [trace.task for trace in chosen.traces], [trace.reward or 0.0 for trace in chosen.traces]
    twins = _twin_labels(Labellings.observed(n_pos, n_neg, tasks, rewards), shuffled, seed)
    conversations = [trace.messages for trace in chosen.traces]
    activations = cached_activations(conversations, f"{identity} {position}", lambda: capture(chosen.traces), cache)
    residuals = activations.residuals
    if reference is not None and reference.shape != residuals.shape[1:]:
        raise UsageError(
            f"--reference: a direction of shape {list(reference.shape)}; the model needs {list(residuals.shape[1:])}"
        )
    positives, negatives = residuals[:n_pos], residuals[n_pos:]
    direction = Direction(
        estimate(positives, negatives, recipe.estimator, tasks=tasks, rewards=rewards), ambient_norms(residuals)
    )
    ranking = validate(
        positives,
        negatives,
        estimator=recipe.estimator,
        tasks=tasks,
        rewards=rewards,
        permutations=recipe.permutations,
        seed=seed,
        reference=reference,
    )
    return BuiltDirection(
        direction=direction,
        ranking=ranking,
        contrast=chosen,
        audit=audit_contrast(chosen, project(residuals, direction.vectors)),
        position=activations.position,
        truncated_tokens=activations.truncated_tokens,
        shuffled=tuple(
            _as_long_as(direction, vectors) for vectors in directions(residuals, twins, METHODS[recipe.estimator])
        ),
    )


def _twin_labels(observed: Labellings, count: int, seed: int) -> Labellings:
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


def cached_activations(
    conversations: Sequence[Sequence[Message]], identity: str, capture: Callable[[], Activations], cache: Path
) -> Activations:
    """Captured residuals, keyed by everything that determines them.

    Args:
        conversations: what is captured, in order.
        identity: whatever changes residuals about the engine, and the position.
        capture: captures them, where they are not cached.
        cache: folder of captured residuals; created when needed.
    """
    told = [[dict(message) for message in conversation] for conversation in conversations]
    key = hashlib.sha256(json.dumps([_CACHE_VERSION, identity, told]).encode()).hexdigest()[:32]
    path = cache / f"{key}.safetensors"
    if (kept := _read(path)) is not None:
        return kept
    activations = capture()
    cache.mkdir(parents=True, exist_ok=True)
    tensors = {"residuals": activations.residuals, "truncated_tokens": np.array(activations.truncated_tokens)}
    # A run that is killed while it writes must not leave half a file under the final name.
    handle, temporary = tempfile.mkstemp(dir=cache, suffix=".partial")
    with os.fdopen(handle, "wb") as file:
        file.write(safetensors.numpy.save(tensors, {"position": activations.position}))
    os.replace(temporary, path)
    return activations


def _read(path: Path) -> Activations | None:
    """What is cached; None where there is nothing, or a damaged file, which is captured again."""
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            cuts = tuple(int(cut) for cut in file.get_tensor("truncated_tokens"))
            return Activations(file.get_tensor("residuals"), file.metadata()["position"], cuts)
    except (FileNotFoundError, safetensors.SafetensorError, KeyError, TypeError):
        return None
