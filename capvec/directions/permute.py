"""Permuting labels, within tasks where the contrast allows it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray

from capvec.directions.labels import Labellings

MIN_ARRANGEMENTS = 100
"""Fewest labellings within tasks for permuting within them: with fewer, no p-value could reach 0.01."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """The labellings that are equally likely under the null hypothesis.

    Within tasks, each task keeps its number of positives, so that a difference between tasks (their wording, their
    difficulty) cannot pass for a difference between the classes. This needs tasks with traces of both classes. If they
    allow fewer than `MIN_ARRANGEMENTS` labellings, labels are permuted over all traces instead. That assumes that
    traces of one task are independent, and that task and class are unrelated.
    """

    within_task: bool
    blocks: NDArray[np.int64]
    """`[n]`: labels are permuted among traces with the same number."""
    arrangements: int
    """Number of different labellings, the observed one included."""
    mirrored: bool
    """Whether the labelling with both classes swapped is among them."""

    def __str__(self) -> str:
        if not self.within_task:
            return (
                f"over all traces (tasks with both classes allow fewer than {MIN_ARRANGEMENTS} labellings), as if "
                "traces of one task were independent"
            )
        return "within tasks"


def choose_scheme(observed: Labellings) -> Scheme:
    """Permute within tasks if that allows at least `MIN_ARRANGEMENTS` labellings, else over all traces."""
    labels = observed.labels[0]
    within = _scheme(labels, observed.tasks, True)
    return within if within.arrangements >= MIN_ARRANGEMENTS else _scheme(labels, np.zeros_like(observed.tasks), False)


def _scheme(labels: NDArray[np.bool_], blocks: NDArray[np.int64], within_task: bool) -> Scheme:
    sizes = [labels[blocks == block] for block in np.unique(blocks)]
    arrangements = math.prod(math.comb(len(block), int(block.sum())) for block in sizes)
    return Scheme(within_task, blocks, arrangements, all(2 * block.sum() == len(block) for block in sizes))


def permuted(observed: Labellings, scheme: Scheme, count: int, seed: int) -> Labellings:
    """The observed labelling in row 0, and permuted labellings below it.

    If there are at most `count` other labellings, these are all of them, and p = (1 + b)/(1 + B) is exact. Otherwise
    `count` labellings are drawn, and p is the estimate of Phipson and Smyth (2010), which is never 0. If rewards differ
    within a class, a labelling does not determine the order of the rewards, and labellings are always drawn.
    """
    labels, rewards = observed.labels[0], observed.rewards[0]
    plain = all(len(np.unique(rewards[of_class])) == 1 for of_class in (labels, ~labels))
    if plain and scheme.arrangements - 1 <= count:
        others = np.array([row for row in _all(labels, scheme.blocks) if (row != labels).any()])
        return Labellings(
            np.concatenate([observed.labels, others]),
            np.concatenate([observed.rewards, np.where(others, rewards[labels][0], rewards[~labels][0])]),
            observed.tasks,
        )
    orders = _orders(scheme, count, np.random.default_rng(seed))
    return Labellings(
        np.concatenate([observed.labels, labels[orders]]),
        np.concatenate([observed.rewards, rewards[orders]]),
        observed.tasks,
    )


def others(observed: Labellings, scheme: Scheme, count: int, seed: int) -> Labellings:
    """Draw different permuted labellings, for matched controls.

    The observed labelling is never drawn: such a control would equal the treatment. Nor is its mirror image, which is
    the control `negated`.

    Raises:
        ValueError: there are fewer than `count` such labellings.
    """
    if (available := scheme.arrangements - (2 if scheme.mirrored else 1)) < count:
        raise ValueError(f"{available} other labellings where {count} are needed")
    rng = np.random.default_rng(seed)
    labels = observed.labels[0]
    taken = {labels.tobytes(), *([(~labels).tobytes()] if scheme.mirrored else [])}
    orders: list[NDArray[np.int64]] = []
    while len(orders) < count:
        (order,) = _orders(scheme, 1, rng)
        if (drawn := labels[order].tobytes()) not in taken:
            taken.add(drawn)
            orders.append(order)
    chosen = np.array(orders, dtype=np.int64).reshape(count, len(labels))
    return Labellings(labels[chosen], observed.rewards[0][chosen], observed.tasks)


def _orders(scheme: Scheme, count: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Permutations of the traces within blocks, `[count, n]`: `labels[order]` is a labelling."""
    by_block = np.argsort(scheme.blocks, kind="stable")
    orders = np.empty((count, len(by_block)), dtype=np.int64)
    # Sorted by block, in random order within a block.
    orders[:, by_block] = np.argsort(scheme.blocks + rng.random(orders.shape), axis=1)
    return orders


def _all(labels: NDArray[np.bool_], blocks: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    places = [np.flatnonzero(blocks == block).tolist() for block in np.unique(blocks)]
    for chosen in product(*(combinations(place, int(labels[place].sum())) for place in places)):
        row = np.zeros_like(labels)
        row[list(chain.from_iterable(chosen))] = True
        yield row
