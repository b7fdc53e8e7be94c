"""Permuting labels: within tasks where the contrast allows it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations, product

import numpy as np
from numpy.typing import NDArray

from capvec.directions.labels import Labellings

MIN_ARRANGEMENTS = 100
"""Of the labels within tasks, for permuting within them: with fewer, no p-value could get down to 0.01."""


@dataclass(frozen=True, eq=False)
class Scheme:
    """Which labellings count as equally likely, were the labels meaningless.

    Within tasks, each task keeps its number of positives, so that what sets tasks apart (their wording, how hard they
    are) cannot pass for a difference between the classes. This needs tasks with traces of both classes. Where those are
    so few that there are less than `MIN_ARRANGEMENTS` labellings, labels are permuted over all traces instead: this
    takes the traces of one task for as different as those of two, and task and class for unrelated.
    """

    within_task: bool
    blocks: NDArray[np.int64]
    """`[n]`: labels are permuted among traces of the same number."""
    arrangements: int
    """Different labellings, the observed one included."""
    mirrored: bool
    """Whether swapping the classes whole is among them."""

    def __str__(self) -> str:
        if not self.within_task:
            return (
                f"over all traces (tasks with both classes allow less than {MIN_ARRANGEMENTS} labellings), as if "
                "traces of one task were independent"
            )
        return "within tasks"


def choose_scheme(observed: Labellings) -> Scheme:
    """Within tasks where that leaves at least `MIN_ARRANGEMENTS` labellings, else over all traces."""
    labels = observed.labels[0]
    within = _scheme(labels, observed.tasks, True)
    return within if within.arrangements >= MIN_ARRANGEMENTS else _scheme(labels, np.zeros_like(observed.tasks), False)


def _scheme(labels: NDArray[np.bool_], blocks: NDArray[np.int64], within_task: bool) -> Scheme:
    sizes = [labels[blocks == block] for block in np.unique(blocks)]
    arrangements = math.prod(math.comb(len(block), int(block.sum())) for block in sizes)
    return Scheme(within_task, blocks, arrangements, all(2 * block.sum() == len(block) for block in sizes))


def permuted(observed: Labellings, scheme: Scheme, count: int, seed: int) -> Labellings:
    """The observed labelling, and below it permuted ones.

    These are all the others where they are at most `count`, which makes (1 + b)/(1 + B) exact; else `count` drawn ones,
    which makes it the estimate of Phipson and Smyth (2010), never 0. Where rewards differ within a class, so that a
    labelling does not say where each reward goes, they are always drawn.
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
    """Different permuted labellings, never the observed one: with few traces a blind draw would now and then be that,
    a control that is the treatment. Nor its mirror image, which is the control `negated`.

    Raises:
        ValueError: there are not so many.
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
    """Permutations of the traces that leave each in its block, `[count, n]`: `labels[order]` is a labelling."""
    by_block = np.argsort(scheme.blocks, kind="stable")
    orders = np.empty((count, len(by_block)), dtype=np.int64)
    # Sorted by block, and at random within it.
    orders[:, by_block] = np.argsort(scheme.blocks + rng.random(orders.shape), axis=1)
    return orders


def _all(labels: NDArray[np.bool_], blocks: NDArray[np.int64]) -> Iterator[NDArray[np.bool_]]:
    places = [np.flatnonzero(blocks == block).tolist() for block in np.unique(blocks)]
    for chosen in product(*(combinations(place, int(labels[place].sum())) for place in places)):
        row = np.zeros_like(labels)
        row[list(chain.from_iterable(chosen))] = True
        yield row
