"""Task by config as a chart. The page shows it as a table."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence

from capvec.records import Outcome, Status
from capvec.report.charts.canvas import CHARACTER, Canvas, Chart, shorten
from capvec.tasks.splits import UNKNOWN

_ROW, _TITLE = 18.0, 22.0
"""Heights in px: of a task, and of a split's name above its tasks."""
_LONGEST = 28
"""Characters of a config's name."""
_MEANS: Mapping[Status, str] = {"solved": "solved", "unsolved": "unsolved", "error": "infrastructure error"}


def task_by_config(
    splits: Mapping[str, Sequence[str]],
    configs: Sequence[str],
    cells: Mapping[tuple[str, str], Sequence[Outcome]],
    width: int,
) -> Chart:
    """Every trial as a mark: a row for each task, a column for each config, in a cell one mark for each attempt.

    Args:
        splits: split → its tasks, in order; a single `UNKNOWN` one has no title.
        configs: in order.
        cells: (task, config) → its trials.
        width: in px.
    """
    attempts = max((trial.attempt for trials in cells.values() for trial in trials), default=1)
    names = [shorten(name, _LONGEST * CHARACTER) for name in configs]
    tasks = [task for group in splits.values() for task in group]
    longest = max(map(len, names)) * CHARACTER
    # Names lean over to the left, above those of the tasks, unless the columns are too close for that.
    angle = 40.0 if (width - longest) / len(configs) > 24 else 90.0
    left = max(max(map(len, tasks)) * CHARACTER + 14, longest * math.cos(math.radians(angle)))
    each = (width - left - 4) / len(configs)
    size = max(2.0, min(10.0, each / attempts - 2))
    top = longest * math.sin(math.radians(angle)) + 22
    canvas, y = Canvas(), top
    for column, name in enumerate(names):
        canvas.turned(left + each * (column + 0.5), top - 10, name, angle)
    for split, group in splits.items():
        if list(splits) != [UNKNOWN]:
            canvas.text(4.0, y + _TITLE - 8, split, "panel")
            y += _TITLE
        for task in group:
            canvas.line(0.0, y, float(width), y, "grid")
            canvas.text(left - 10, y + _ROW / 2 + 4, task, "label", "end")
            for column, config in enumerate(configs):
                _cell(canvas, cells.get((task, config), ()), left + each * (column + 0.5), y + _ROW / 2, size, attempts)
            y += _ROW
    canvas.line(0.0, y, float(width), y, "grid")
    _legend(canvas, y + 18)
    caption = (
        "Every trial of every task under every config. A cell shows the attempts in order, or a dash if none was run."
    )
    values = "; ".join(f"{config} {_counted(config, cells)}" for config in configs)
    return Chart("matrix", "Task by config", caption, values, width, int(y + 32), tuple(canvas.marks))


def _cell(canvas: Canvas, trials: Sequence[Outcome], x: float, y: float, size: float, attempts: int) -> None:
    if not trials:
        canvas.line(x - size / 2, y, x + size / 2, y, "absent")
    first = x - (size + 2) * (attempts - 1) / 2
    for trial in trials:
        tip = f"{trial.task}, {trial.config}, attempt {trial.attempt}: {_MEANS[trial.outcome]}"
        _mark(canvas, trial.outcome, first + (size + 2) * (trial.attempt - 1), y, size, tip)


def _mark(canvas: Canvas, outcome: Status, x: float, y: float, size: float, tip: str = "") -> None:
    """They differ in shape, too."""
    if outcome == "error":
        canvas.diamond(x, y, outcome, tip, size * 0.6)
    else:
        side = size if outcome == "solved" else size - 1  # as large with its outline
        canvas.rect(x - side / 2, y - side / 2, side, side, outcome, tip)


def _legend(canvas: Canvas, y: float) -> None:
    x = 8.0
    for outcome, text in _MEANS.items():
        _mark(canvas, outcome, x, y - 4, 10.0)
        canvas.text(x + 11, y, text, "label small")
        x += 11 + len(text) * CHARACTER + 14


def _counted(config: str, cells: Mapping[tuple[str, str], Sequence[Outcome]]) -> str:
    counts = Counter(trial.outcome for (_, of), trials in cells.items() if of == config for trial in trials)
    errors = f", {counts['error']} errors" if counts["error"] else ""
    return f"{counts['solved']} of {counts['solved'] + counts['unsolved']} solved{errors}"
