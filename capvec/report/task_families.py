"""Pass rates by split and by task family: where an effect sits, and whether it reaches families not trained on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from capvec.records import Outcome
from capvec.report.section import Code, Paragraph, Section, Strong, Table, left, right
from capvec.results.results import Results
from capvec.tasks.splits import family_of, groups


def task_families_section(results: Results) -> Section | None:
    """A row for each split, then one for each family; None where the tasks are of one family."""
    plan, outcomes = results.plan, results.summary.analysed(results.outcomes)
    if len({family_of(task) for task in plan.tasks}) < 2:
        return None
    names = [config.name for config in plan.configs]
    cells: defaultdict[tuple[str, str], list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        cells[outcome.config, outcome.task].append(outcome)
    rows = tuple(
        (
            split if family else Strong(split),
            family or "all",
            *(solved_of([one for task in tasks for one in cells[name, task]]) for name in names),
        )
        for split, family, tasks in groups(plan.tasks)
    )
    note = Paragraph(
        (
            "Solved trials of valid trials. The bundled agent was trained on other instances of the ",
            Code("trained"),
            " families only.",
        )
    )
    table = Table((*left("split", "task family"), *right(*names)), rows)
    folded = "Solved trials of valid trials, by split and task family"
    return Section("task-families", "By task family", (table, note), folded=folded)


def solved_of(outcomes: Sequence[Outcome]) -> str:
    """`3/4`: solved trials of valid trials."""
    valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
    return f"{sum(outcome.outcome == 'solved' for outcome in valid)}/{len(valid)}"
