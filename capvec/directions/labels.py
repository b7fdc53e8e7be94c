"""Labellings of traces: the observed one, and those that permuting it makes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import numpy as np
from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class Labellings:
    """B labellings of the same n traces as positive or negative.

    Those that `rows` and `of` select are in Fortran order: most arithmetic on a trace is done under all labellings.
    """

    labels: NDArray[np.bool_]
    """`[B, n]`, true for positives."""
    rewards: NDArray[np.float64]
    """`[B, n]`, permuted along with the labels."""
    tasks: NDArray[np.int64]
    """`[n]`; traces with the same number are of the same task. Never permuted."""

    @classmethod
    def observed(
        cls, n_pos: int, n_neg: int, tasks: Sequence[str] | None = None, rewards: Sequence[float] | None = None
    ) -> Self:
        """The labelling in which the first `n_pos` traces are positive.

        Args:
            n_pos: positives.
            n_neg: negatives.
            tasks: name of each trace's task, positives first; None takes each trace for a task of its own.
            rewards: of each trace; None takes 1 for positives and 0 for negatives.

        Raises:
            ValueError: an empty class, not one task and reward for each trace, or rewards that are not finite.
        """
        n = n_pos + n_neg
        if n_pos < 1 or n_neg < 1:
            raise ValueError(f"{n_pos} positives and {n_neg} negatives: expected at least one of each")
        for name, given in (("tasks", tasks), ("rewards", rewards)):
            if given is not None and len(given) != n:
                raise ValueError(f"{len(given)} {name} for {n} traces: expected one for each")
        labels = np.arange(n) < n_pos
        numbers = np.arange(n) if tasks is None else np.unique(np.asarray(tasks), return_inverse=True)[1]
        worth = labels.astype(float) if rewards is None else np.asarray(rewards, dtype=float)
        if not np.isfinite(worth).all():
            raise ValueError(f"rewards {worth.tolist()}: expected finite numbers")
        return cls(labels[None], worth[None], numbers.astype(np.int64))

    def rows(self, which: slice | NDArray[np.bool_]) -> Self:
        """Select labellings."""
        return type(self)(np.asfortranarray(self.labels[which]), np.asfortranarray(self.rewards[which]), self.tasks)

    def of(self, traces: NDArray[np.bool_]) -> Self:
        """Select traces, `[n]` true for those to keep, in all labellings."""
        labels, rewards = np.asfortranarray(self.labels[:, traces]), np.asfortranarray(self.rewards[:, traces])
        return type(self)(labels, rewards, self.tasks[traces])

    @cached_property
    def two_classes(self) -> NDArray[np.bool_]:
        """`[B]`: whether both classes occur."""
        return np.asarray(self.labels.any(axis=1) & ~self.labels.all(axis=1))

    @cached_property
    def contrast(self) -> NDArray[np.float64]:
        """`[B, n]`: 1/n₊ on positives and −1/n₋ on negatives, so that this times scores is the difference of means."""
        n_pos = self.labels.sum(axis=1, keepdims=True)
        n_neg = self.labels.shape[1] - n_pos
        return np.asarray(np.where(self.labels, 1 / np.maximum(n_pos, 1), -1 / np.maximum(n_neg, 1)))

    @cached_property
    def centred_rewards(self) -> NDArray[np.float64]:
        """`[B, n]`: the rewards less their mean."""
        return np.asarray(self.rewards - self.rewards.mean(axis=1, keepdims=True))

    @cached_property
    def pairs(self) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
        """Pairs of a positive and a negative, within tasks where possible.

        In the order of the traces, the k-th positive of a task is paired with the k-th negative of the same task. The
        positives and negatives that remain are paired in order, across tasks. The rest of the larger class is in no
        pair.

        Returns:
            Positives and negatives, `[B, pairs]` each, and which of the pairs exist: labellings of part of the traces
            differ in how many of the smaller class they have.
        """
        by_task = np.argsort(self.tasks, kind="stable")
        labels, tasks = self.labels[:, by_task], self.tasks[by_task]
        n = len(tasks)
        turns, counts = zip(*(_within_task(labels == positive, tasks) for positive in (True, False)), strict=True)
        sides = []
        for own, positive in enumerate((True, False)):
            across = turns[own] >= counts[1 - own]  # the task has no partner for this one
            key = np.where(labels == positive, np.arange(n) + n * across, 2 * n)
            sides.append(np.asfortranarray(by_task[np.argsort(key, axis=1, kind="stable")]))
        pairs = np.minimum(labels.sum(axis=1), (~labels).sum(axis=1))
        width = int(pairs.max(initial=0))
        return sides[0][:, :width], sides[1][:, :width], (np.arange(width)[:, None] < pairs).T

    @cached_property
    def pair_places(self) -> tuple[NDArray[np.int64], ...]:
        """Where the four terms of (p − m)·(p′ − m′) stand in a Gram matrix, for each two pairs p, m and p′, m′.

        Of the lower triangle of pairs × pairs, `[places, B]` each: p·p′, m·m′, p·m′ and m·p′. A pair that does not
        exist is taken for one of a trace with itself, whose difference is zero.
        """
        positives, negatives, exists = (side.T for side in self.pairs)
        partners = np.where(exists, negatives, positives)
        n, (rows, columns) = self.labels.shape[1], np.tril_indices(len(exists))
        sides = ((positives, positives), (partners, partners), (positives, partners), (partners, positives))
        return tuple(n * left[rows] + right[columns] for left, right in sides)


def positives_first(
    residuals: NDArray[np.float32],
    labels: ArrayLike,
    tasks: Sequence[str] | None,
    rewards: Sequence[float] | None,
) -> tuple[NDArray[np.float32], int, Sequence[str] | None, Sequence[float] | None]:
    """Sort traces so that positives come before negatives; within a class they keep their order.

    Returns:
        The sorted residuals, the number of positives, and the sorted tasks and rewards.

    Raises:
        ValueError: a shape is another one, or not one label, task and reward for each trace.
    """
    if residuals.ndim != 3:
        raise ValueError(f"residuals of shape {residuals.shape}; expected [n, n_layers, d_model]")
    positive = np.asarray(labels, dtype=bool)
    for name, given in (("labels", positive), ("tasks", tasks), ("rewards", rewards)):
        if given is not None and len(given) != len(residuals):
            raise ValueError(f"{len(given)} {name} for {len(residuals)} traces: expected one for each")
    order = np.argsort(~positive, kind="stable")
    return (
        residuals[order],
        int(positive.sum()),
        None if tasks is None else [tasks[index] for index in order],
        None if rewards is None else [rewards[index] for index in order],
    )


def _within_task(flags: NDArray[np.bool_], tasks: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """How many of the flagged came before each trace in its task, and are in its task; traces are sorted by task."""
    before = np.concatenate([np.zeros((len(flags), 1), np.int64), flags.cumsum(axis=1)], axis=1)
    starts, ends = np.searchsorted(tasks, tasks), np.searchsorted(tasks, tasks, side="right")
    return before[:, :-1] - before[:, starts], before[:, ends] - before[:, starts]
