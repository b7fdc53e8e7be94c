"""Pass rates by split and by family of tasks: where an effect sits, and whether it reaches families not trained on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from capvec.plan.plan import Plan
from capvec.records import Outcome, Task

UNKNOWN = "–"


def family_of(task: Task) -> str:
    """`metadata.family` of `task.toml`; a dash where it says none."""
    return str(task.metadata.get("family") or UNKNOWN)


def split_of(task: Task) -> str:
    """`metadata.split` of `task.toml`: `trained` or `held-out` for the bundled tasks; a dash where it says none."""
    return str(task.metadata.get("split") or UNKNOWN)


def groups(tasks: Iterable[Task]) -> Iterator[tuple[str, str, set[str]]]:
    """Each split, then each family of a split: what a table calls the two, and the names of the tasks."""
    where = {task.name: (split_of(task), family_of(task)) for task in tasks}
    splits = sorted({split for split, _ in where.values()}, reverse=True)
    for split in splits:
        yield f"**{split}**", "all", {name for name, place in where.items() if place[0] == split}
    for split, family in sorted(set(where.values()), key=lambda place: (splits.index(place[0]), place[1])):
        yield split, family, {name for name, place in where.items() if place == (split, family)}


def family_rows(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """Header; one row for each split; one for each family. A cell is `solved/valid`."""
    names = [config.name for config in plan.configs]
    yield ("split", "family", *names)
    for split, family, tasks in groups(plan.tasks):
        yield (split, family, *(_cell(outcomes, tasks, name) for name in names))


def _cell(outcomes: Sequence[Outcome], tasks: set[str], config: str) -> str:
    valid = [o for o in outcomes if o.config == config and o.task in tasks and o.outcome != "error"]
    return f"{sum(outcome.outcome == 'solved' for outcome in valid)}/{len(valid)}"
