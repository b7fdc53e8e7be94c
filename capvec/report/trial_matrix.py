"""Task by config: every trial of a run."""

from __future__ import annotations

from collections import defaultdict
from operator import attrgetter

from capvec.records import Status
from capvec.report.charts.matrix import task_by_config
from capvec.report.figures import WIDE
from capvec.report.section import Paragraph, Section, Table, TrialMatrix, left
from capvec.results.results import Results
from capvec.tasks.splits import split_of

MARKS: dict[Status, str] = {"solved": "✓", "unsolved": "·", "error": "E"}


def trial_matrix_section(results: Results) -> Section:
    """A row for each task and a column for each config."""
    plan = results.plan
    cells = defaultdict(list)
    for outcome in sorted(results.outcomes, key=attrgetter("attempt")):
        cells[outcome.task, outcome.config].append(outcome)
    splits: defaultdict[str, list[str]] = defaultdict(list)
    for task in plan.tasks:
        splits[split_of(task)].append(task.name)
    names = tuple(config.name for config in plan.configs)
    chart = task_by_config(splits, names, cells, WIDE)
    matrix = TrialMatrix(dict(splits), names, results.summary.baseline, dict(cells), chart)
    legend = Paragraph("✓ solved, · unsolved, E infrastructure error, – not run; one mark for each attempt.")
    return Section("task-by-config", "Task by config", (matrix, legend))


def as_table(matrix: TrialMatrix) -> Table:
    """The matrix in marks, one for each attempt."""
    rows = tuple(
        (
            task,
            *(
                "".join(MARKS[one.outcome] for one in matrix.cells.get((task, name), ())) or "–"
                for name in matrix.configs
            ),
        )
        for tasks in matrix.splits.values()
        for task in tasks
    )
    return Table(left("task", *matrix.configs), rows)
