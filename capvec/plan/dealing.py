"""How `--shard` deals a plan: each (task, attempt) goes to one shard, with all its configs."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from capvec.errors import UsageError
from capvec.plan.option_parsers import Shard
from capvec.plan.seeds import drawn_order
from capvec.serial import Record

Block = tuple[str, int]
"""A task and an attempt at it: the trials of one block run under every config, from one seed."""

_MOST = 10_000_000
"""Blocks of a plan that a run folder may describe."""


@dataclass(frozen=True)
class Dealing(Record):
    """A plan that was dealt to shards, and which of them a run holds.

    Tasks are dealt in an order drawn from the seed, so that each shard has a random sample of them. The attempts at a
    task follow each other, so that a shard prepares few tasks. Sizes differ by one block at most.
    """

    of: int
    """Number of shards."""
    shards: tuple[int, ...]
    """Those that the run holds, from 1: one, or several after a merge."""
    tasks: tuple[str, ...]
    """Of the whole plan, in its order, those that are found unfit included."""
    attempts: int
    """At each (task, config) of the whole plan."""
    seed: int
    """Base seed."""

    def __post_init__(self) -> None:
        pairs = len(self.tasks) * self.attempts
        if not (self.shards and 1 <= min(self.shards) <= max(self.shards) <= self.of <= pairs <= _MOST):
            raise ValueError(f"shards {self.shards!r:.80} of {self.of} of {pairs} (task, attempt) pairs: no dealing")

    @property
    def blocks(self) -> tuple[Block, ...]:
        """Of the whole plan, in its order."""
        return tuple((task, attempt) for attempt in range(1, self.attempts + 1) for task in self.tasks)

    @property
    def here(self) -> frozenset[Block]:
        """The blocks of the shards that the run holds."""
        return self._of(self.shards)

    @property
    def absent(self) -> tuple[int, ...]:
        """The shards that the run does not hold."""
        return tuple(number for number in range(1, self.of + 1) if number not in self.shards)

    @property
    def elsewhere(self) -> frozenset[Block]:
        """The blocks of the other shards."""
        return self._of(self.absent)

    @property
    def in_words(self) -> str:
        """`shard 3 of 8`, or `shards 1, 2 and 4 of 8`."""
        return shards_in_words(self.shards, self.of)

    def differences(self, other: Dealing) -> dict[str, tuple[Any, Any]]:
        """Name → both values, where two runs do not come from one dealing; the shards that they hold may differ."""
        found: dict[str, tuple[Any, Any]] = {
            f"--{name}": (getattr(self, name), getattr(other, name))
            for name in ("attempts", "seed")
            if getattr(self, name) != getattr(other, name)
        }
        if self.of != other.of:
            found["--shard"] = (self.in_words, other.in_words)
        if set(self.tasks) != set(other.tasks):
            found["the list of tasks"] = _with_odd(self.tasks, other.tasks), _with_odd(other.tasks, self.tasks)
        return found

    def _of(self, shards: Collection[int]) -> frozenset[Block]:
        drawn = [
            (task, attempt) for task in drawn_order(self.tasks, self.seed) for attempt in range(1, self.attempts + 1)
        ]
        size = len(drawn)
        return frozenset(
            block for number in shards for block in drawn[size * (number - 1) // self.of : size * number // self.of]
        )


def deal(shard: Shard, tasks: Sequence[str], attempts: int, seed: int) -> Dealing:
    """Deal a plan, of which this process runs one shard.

    Raises:
        UsageError: there are more shards than (task, attempt) pairs.
    """
    if shard.of > (most := len(tasks) * attempts):
        raise UsageError(
            f"--shard {shard.number}/{shard.of}: the plan has {most} (task, attempt) pairs, and the configs of a pair "
            f"stay together; expected at most {most} shards"
        )
    return Dealing(shard.of, (shard.number,), tuple(tasks), attempts, seed)


def shards_in_words(numbers: Sequence[int], of: int) -> str:
    """`shard 3 of 8`, or `shards 1, 2 and 4 of 8`."""
    *others, last = map(str, numbers)
    return f"shards {', '.join(others)} and {last} of {of}" if others else f"shard {last} of {of}"


def _with_odd(own: Sequence[str], other: Sequence[str]) -> str:
    """How long a list of tasks is, and one that the other list lacks."""
    extra = next((name for name in own if name not in other), None)
    return f"{len(own)} tasks" + ("" if extra is None else f", {extra} among them")
