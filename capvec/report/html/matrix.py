"""Task by config: every trial as a mark that leads to its trajectory beside the baseline's."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from urllib.parse import quote

from capvec.records import Outcome
from capvec.report.html.data import RunReport
from capvec.report.html.markup import Markup, element, join
from capvec.tasks.splits import UNKNOWN

_MARKS = {"solved": "✓", "unsolved": "·", "error": "E"}
_TALL = 24
"""Tasks from which the matrix scrolls by itself."""


def matrix(report: RunReport, viewable: Collection[tuple[str, str, int]]) -> Markup:
    """A table, by split where the tasks name theirs.

    Args:
        report: of the run.
        viewable: (task, config, attempt) of the trials that the viewer has.
    """
    plan = report.plan
    names = [config.name for config in plan.configs]
    bodies = []
    for split, tasks in report.splits.items():
        if list(report.splits) != [UNKNOWN]:
            title = element("th", split, scope="rowgroup", colspan=len(names) + 1)
            bodies.append(element("tbody", element("tr", title), class_="split"))
        rows = [[_cell(report, report.cells.get((task, name), ()), viewable) for name in names] for task in tasks]
        lines = [element("tr", element("th", task, scope="row"), row) for task, row in zip(tasks, rows, strict=True)]
        bodies.append(element("tbody", lines))
    head = element("tr", [element("th", name, scope="col") for name in ("task", *names)])
    table = element("table", element("thead", head), bodies, class_="matrix")
    kind = "scroll tall" if len(plan.tasks) > _TALL else "scroll"
    opens = " A mark opens the trajectory beside the baseline's." if viewable else ""
    words = f"✓ solved, · unsolved, E error of the instrument, – not run; one mark per attempt.{opens}"
    return join(
        [
            element("div", table, class_=kind, role="region", aria_label="Task by config", tabindex="0"),
            element("p", words, class_="note"),
        ]
    )


def _cell(report: RunReport, outcomes: Sequence[Outcome], viewable: Collection[tuple[str, str, int]]) -> Markup:
    everything = bool(outcomes) and all(outcome.outcome == "solved" for outcome in outcomes)
    marks = [
        _link(report, outcome) if (outcome.task, outcome.config, outcome.attempt) in viewable else _mark(outcome)
        for outcome in outcomes
    ]
    return element("td", marks or element("span", "–"), class_="all" if everything else None)


def _mark(outcome: Outcome) -> Markup:
    return element("span", _MARKS[outcome.outcome], class_=outcome.outcome, title=outcome.outcome)


def _link(report: RunReport, outcome: Outcome) -> Markup:
    """To the viewer: as its script reads `location.hash`."""
    base, others = report.summary["baseline"], [config.name for config in report.plan.configs]
    other = outcome.config if outcome.config != base else next((name for name in others if name != base), base)
    place = "/".join(quote(part, safe="") for part in (outcome.task, str(outcome.attempt), base, other))
    label = f"{outcome.task}, {outcome.config}, attempt {outcome.attempt}: {outcome.outcome}"
    return element("a", _MARKS[outcome.outcome], href=f"#trial/{place}", class_=outcome.outcome, aria_label=label)
