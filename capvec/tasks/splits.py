"""The split and the task family of a task."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from capvec.task_records import Task

UNKNOWN = "–"


def family_of(task: Task) -> str:
    """`metadata.family` of `task.toml`, or a dash."""
    return str(task.metadata.get("family") or UNKNOWN)


def split_of(task: Task) -> str:
    """`metadata.split` of `task.toml`, which is `trained` or `held-out` for the bundled tasks; or a dash."""
    return str(task.metadata.get("split") or UNKNOWN)


def groups(tasks: Iterable[Task]) -> Iterator[tuple[str, str | None, set[str]]]:
    """Each split, then each task family, with the names of their tasks. The family is None for a whole split."""
    where = {task.name: (split_of(task), family_of(task)) for task in tasks}
    splits = sorted({split for split, _ in where.values()}, reverse=True)
    for split in splits:
        yield split, None, {name for name, place in where.items() if place[0] == split}
    for split, family in sorted(set(where.values()), key=lambda place: (splits.index(place[0]), place[1])):
        yield split, family, {name for name, place in where.items() if place == (split, family)}
