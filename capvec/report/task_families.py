"""Pass rates by split and by family of tasks: where an effect sits, and whether it reaches families not trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.tasks.splits import groups


def family_rows(plan: Plan, outcomes: Sequence[Outcome]) -> Iterator[tuple[str, ...]]:
    """Header; one row for each split; one for each family. A cell is `solved/valid`."""
    names = [config.name for config in plan.configs]
    yield ("split", "family", *names)
    for split, family, tasks in groups(plan.tasks):
        yield (split, family, *(_cell(outcomes, tasks, name) for name in names))


def _cell(outcomes: Sequence[Outcome], tasks: set[str], config: str) -> str:
    valid = [o for o in outcomes if o.config == config and o.task in tasks and o.outcome != "error"]
    return f"{sum(outcome.outcome == 'solved' for outcome in valid)}/{len(valid)}"
