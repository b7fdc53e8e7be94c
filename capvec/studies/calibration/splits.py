"""Which families layer and strength are chosen on, and which they are reported on. Never the same."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

from capvec.errors import UsageError
from capvec.records import Task

TRAINED, HELD_OUT = "trained", "held-out"
"""`split` in a task's metadata: families that the agent was trained on (other instances), and others."""


@dataclass(frozen=True)
class Splits:
    """Tasks by what they may be used for, each in the order given."""

    tune: tuple[Task, ...]
    """Half of the trained families: layer and strength are chosen here, and the directions built."""
    report: tuple[Task, ...]
    """The other half of the trained families."""
    held_out: tuple[Task, ...]
    """Families never trained on."""


def family(task: Task) -> str:
    """The family that a task says it is of; its own name where it says none."""
    return str(task.metadata.get("family", task.name))


def families(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Sorted, each once."""
    return tuple(sorted({family(task) for task in tasks}))


def tune_families(tasks: Iterable[Task]) -> tuple[str, ...]:
    """Every other one of the trained families by name, the first included."""
    return families(task for task in tasks if task.metadata.get("split") == TRAINED)[::2]


def split_tasks(tasks: Sequence[Task], tune: Collection[str]) -> Splits:
    """Sort tasks into halves.

    Args:
        tasks: of any split; those of no known split are in no half.
        tune: the families that were or will be chosen on.

    Raises:
        UsageError: a family is both held out and chosen on.
    """
    held_out = tuple(task for task in tasks if task.metadata.get("split") == HELD_OUT)
    if both := sorted({family(task) for task in held_out} & set(tune)):
        raise UsageError(f"the families {', '.join(both)} are held out, and layer and strength were chosen on them")
    trained = [task for task in tasks if task.metadata.get("split") == TRAINED]
    return Splits(
        tune=tuple(task for task in trained if family(task) in tune),
        report=tuple(task for task in trained if family(task) not in tune),
        held_out=held_out,
    )


def spread(tasks: Sequence[Task], limit: int) -> tuple[Task, ...]:
    """At most `limit` tasks, taken from the families in turn so that each counts about alike."""
    groups = [[task for task in tasks if family(task) == name] for name in families(tasks)]
    in_turn = (task for task in chain.from_iterable(zip_longest(*groups)) if task is not None)
    return tuple(in_turn)[:limit]
