"""The families that layer and strength are selected on (dev) and those that they are tested on; they never overlap."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from capvec.errors import UsageError
from capvec.task_records import Task

TRAINED, HELD_OUT = "trained", "held-out"
"""`split` in a task's metadata: families that the agent was trained on (other instances), and others."""


@dataclass(frozen=True)
class Splits:
    """Tasks by their use, each in the order given."""

    dev: tuple[Task, ...]
    """Half of the trained families: layer and strength are selected on them, and the directions are built from them."""
    test: tuple[Task, ...]
    """The other half of the trained families."""
    held_out: tuple[Task, ...]
    """Families never trained on."""


def family(task: Task) -> str:
    """The family in a task's metadata, or the task's name."""
    return str(task.metadata.get("family", task.name))


def families(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Sorted, each once."""
    return tuple(sorted({family(task) for task in tasks}))


def dev_families(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Every other one of the trained families by name, the first included."""
    return families(task for task in tasks if task.metadata.get("split") == TRAINED)[::2]


def split_tasks(tasks: Sequence[Task], dev: Collection[str]) -> Splits:
    """Sort tasks into splits; a task without a known `split` in its metadata is in none.

    Raises:
        UsageError: a family of `dev` is held out.
    """
    held_out = tuple(task for task in tasks if task.metadata.get("split") == HELD_OUT)
    if both := sorted({family(task) for task in held_out} & set(dev)):
        raise UsageError(f"the families {', '.join(both)} are held out, and layer and strength were selected on them")
    trained = [task for task in tasks if task.metadata.get("split") == TRAINED]
    return Splits(
        dev=tuple(task for task in trained if family(task) in dev),
        test=tuple(task for task in trained if family(task) not in dev),
        held_out=held_out,
    )


def spread(tasks: Sequence[Task], limit: int) -> tuple[Task, ...]:
    """At most `limit` tasks, taken from the families in turn so that these have similar weights."""
    groups = [[task for task in tasks if family(task) == name] for name in families(tasks)]
    in_turn = (task for task in chain.from_iterable(zip_longest(*groups)) if task is not None)
    return tuple(in_turn)[:limit]
