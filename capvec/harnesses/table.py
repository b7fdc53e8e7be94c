"""Tables: CSV, JSON lines, Parquet, or a pandas DataFrame, one row for each trial."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from capvec.arguments import split
from capvec.errors import UsageError
from capvec.harnesses.cells import Cells, check_names, csv_cells, json_cells, parquet_cells
from capvec.harnesses.source import UNKNOWN_OUTCOME, Reading, Scale, Source, Trial, judged
from capvec.reading import shown
from capvec.records import Status
from capvec.text import enumerated
from capvec.traces.fields import TRACE_FIELDS

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: Mapping[str, tuple[str, ...]] = {
    "task": TRACE_FIELDS["task"],
    "config": ("config",),
    "attempt": ("attempt", "epoch"),
    "outcome": ("outcome",),
    "reward": TRACE_FIELDS["reward"],
    "steps": TRACE_FIELDS["steps"],
    "parse_fail": TRACE_FIELDS["parse_fail"],
    "no_cmd": TRACE_FIELDS["no_cmd"],
    "repaired": ("repaired",),
    "seed": ("seed",),
    "error": ("error",),
    "family": ("family",),
    "split": ("split",),
}
"""Field of a trial → the names of its column, in the order in which they are tried."""
_WORDS: Mapping[str, Status] = {
    **dict.fromkeys(("solved", "pass", "passed", "success", "correct", "resolved", "true", "yes"), "solved"),
    **dict.fromkeys(
        ("unsolved", "fail", "failed", "failure", "incorrect", "wrong", "unresolved", "false", "no"), "unsolved"
    ),
    **dict.fromkeys(("error", "errored", "crash", "crashed", "exception"), "error"),
}
"""An outcome as people write it → its name."""
_OF_CAPVEC = {"run", "task", "config", "layer", "alpha", "attempt", "seed", "outcome", "end_reason"}
"""Columns by which `master_summary.csv` and `trials.jsonl` are known."""
_READERS = {"CSV": csv_cells, "Parquet": parquet_cells}


def parse_columns(text: str) -> dict[str, str]:
    """`"task=problem,config=arm"` → `{"task": "problem", "config": "arm"}`.

    Raises:
        UsageError: an entry without `=` or with an empty side, or a field that trials do not have.
    """
    columns = {}
    for part in split("--columns", text):
        field, _, name = (piece.strip() for piece in part.partition("="))
        if not field or not name:
            raise UsageError(f"--columns {part!r}: expected FIELD=NAME, as in task=problem_id")
        if field not in COLUMNS:
            raise UsageError(f"--columns {part!r}: no field {field!r}; expected one of {', '.join(COLUMNS)}")
        if field in columns:
            raise UsageError(f"--columns {text!r}: {field} is there twice; expected each field once")
        columns[field] = name
    return columns


def read_table(path: Path, kind: str, reading: Reading) -> Source:
    """Read a file of a table.

    Args:
        path: of the file.
        kind: `CSV` or `Parquet`.
        reading: how to read it.

    Raises:
        UsageError: it cannot be read, a column is missing, or a cell is not what its column should hold.
    """
    used = {*reading.columns.values(), *(name for known in COLUMNS.values() for name in known)}
    return _source(_READERS[kind](path, used), reading, path, f"a table ({kind})")


def source_of_values(path: Path, values: Sequence[Any], reading: Reading) -> Source:
    """The trials of JSON lines or of a JSON list, one object for each.

    Raises:
        UsageError: as `read_table`, or an entry is no object.
    """
    return _source(json_cells(path, values), reading, path, "a table (JSON)")


def source_of_frame(frame: pd.DataFrame, reading: Reading | None = None) -> Source:
    """The trials of a table in memory, one row for each.

    Raises:
        UsageError: a column is missing, or a cell is not what its column should hold.
    """
    names = [str(name).strip() for name in frame.columns]
    cells = Cells(names, lambda name: list(frame.iloc[:, names.index(name)]))
    return _source(cells, reading or Reading(), None, "a DataFrame")


def _source(cells: Cells, reading: Reading, path: Path | None, tool: str) -> Source:
    where = "the table" if path is None else shown(path)
    check_names(where, cells.names)
    columns = _found(where, cells.names, reading.columns)
    _check_agreement(where, cells, reading)
    rows = zip(*map(cells.column, columns.values()), strict=True)
    read = [
        _trial(_Row(f"{where}, row {number}", columns, dict(zip(columns, row, strict=True))), reading)
        for number, row in enumerate(rows, 1)
    ]
    if not read:
        raise UsageError(f"{where}: the table has no row; expected one for each trial")
    trials = tuple(trial for trial, _ in read)
    _check_numbered(where, columns, trials)
    scale = Scale.of(f"column {columns.get('outcome', columns.get('reward'))}", [number for _, number in read])
    own = {*cells.names} >= _OF_CAPVEC
    told = own or any(trial.outcome == "error" for trial in trials)
    files = () if path is None else (path,)
    return Source(
        path, "capvec's table of a sweep" if own else tool, trials, True if told else None, files=files, scale=scale
    )


# ------------------------------------------------------------------------------------------------ columns and cells


def _found(where: str, names: Sequence[str], asked: Mapping[str, str]) -> dict[str, str]:
    """Field → its column.

    Raises:
        UsageError: a column that the user named is not there, or one that every table needs is not.
    """
    for field, name in asked.items():
        if name not in names:
            raise UsageError(f"--columns {field}={name}: {where} has no such column; it has {_listed(names)}")
    columns = {
        field: next((name for name in ([asked[field]] if field in asked else known) if name in names), None)
        for field, known in COLUMNS.items()
    }
    if columns["task"] is None:
        raise UsageError(_missing(where, "task", "the name of the task", names))
    if columns["outcome"] is None and columns["reward"] is None:
        raise UsageError(_missing(where, "outcome", "solved, unsolved or error, true or false, or a reward", names))
    return {field: name for field, name in columns.items() if name is not None}


def _missing(where: str, field: str, what: str, names: Sequence[str]) -> str:
    return (
        f"{where}: no column for the {field} ({what}); it has {_listed(names)}; expected one of "
        f"{', '.join((*COLUMNS[field], *(COLUMNS['reward'] if field == 'outcome' else ())))}, or --columns {field}=NAME"
    )


def _listed(names: Sequence[str]) -> str:
    return enumerated(names) or "no columns"


def _check_numbered(where: str, columns: Mapping[str, str], trials: Sequence[Trial]) -> None:
    """Refuse attempts of which some are numbered and others are not.

    Raises:
        UsageError: it is so.
    """
    unnumbered = [row for row, trial in enumerate(trials, 1) if trial.attempt is None]
    if 0 < len(unnumbered) < len(trials):
        raise UsageError(
            f"{where}, row {unnumbered[0]}: column {columns['attempt']} is empty; expected a number in "
            "each row, or in none"
        )


class _Row:
    """The cells of one row by field, with errors that name the row and the column."""

    def __init__(self, where: str, columns: Mapping[str, str], cells: Mapping[str, Any]) -> None:
        self.where, self.columns, self.cells = where, columns, cells

    def cell(self, field: str) -> Any:
        """The cell; None for one that is empty or not there."""
        value = self.cells.get(field)
        if isinstance(value, str):
            return value.strip() or None
        return None if value is None or (isinstance(value, float) and math.isnan(value)) or _is_na(value) else value

    def text(self, field: str) -> str:
        value = self.cell(field)
        if isinstance(value, float) and value.is_integer():  # pandas makes floats of whole numbers beside empty cells
            value = int(value)
        return "" if value is None else str(value)

    def name(self, field: str) -> str:
        """A text or a number; empty for an empty cell."""
        if isinstance(self.cell(field), Collection) and not isinstance(self.cell(field), str):
            raise self.wrong(field, "a text or a number")
        return self.text(field)

    def whole(self, field: str) -> int | None:
        """A whole number of at least 0; None for an empty cell."""
        value = self.cell(field)
        if value is None:
            return None
        try:
            number = float(value)
            if number >= 0 and number.is_integer():
                return int(value) if isinstance(value, str) and value.isdecimal() else int(number)
        except (TypeError, ValueError, OverflowError):
            pass
        raise self.wrong(field, "a whole number of at least 0")

    def number(self, field: str) -> float | None:
        """A finite number; true is 1 and false is 0, and a word for an outcome is what it says."""
        value = self.cell(field)
        if isinstance(value, str) and (word := _WORDS.get(value.lower())) is not None:
            return {"solved": 1.0, "unsolved": 0.0, "error": None}[word]
        try:
            number = None if value is None else float(value)
        except (TypeError, ValueError):
            number = math.nan
        if number is not None and not math.isfinite(number):
            raise self.wrong(field, "a finite number")
        return number

    def wrong(self, field: str, expected: str) -> UsageError:
        value = shown(repr(self.cells[field])[:60])
        return UsageError(f"{self.where}: column {self.columns[field]} is {value}, expected {expected}")


def _is_na(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")


def _trial(row: _Row, reading: Reading) -> tuple[Trial, float | None]:
    """The trial of a row, and the number that decided whether it is solved; None where a word did."""
    if not (task := row.name("task")):
        raise row.wrong("task", "the name of a task")
    reward = row.number("reward")
    outcome, error = _outcome(row, reward, reading)
    number = None if outcome == "error" else _number_of(row, reward)
    counts = {field: row.whole(field) for field in ("steps", "parse_fail", "no_cmd", "repaired")}
    _check_counts(row, counts)
    trial = Trial(
        task=task,
        config=row.name("config"),
        outcome=outcome,
        attempt=row.whole("attempt"),
        reward=None if outcome == "error" else number if reward is None else reward,
        **counts,
        seed=row.whole("seed"),
        error=error,
        family=_known(row.text("family")),
        split=_known(row.text("split")),
    )
    return trial, number


def _number_of(row: _Row, reward: float | None) -> float | None:
    """The number that decides whether a trial is solved; None where a word does."""
    written = row.cell("outcome")
    if written is None:
        return reward
    return None if str(written).lower() in _WORDS else float(written)


def _check_counts(row: _Row, counts: Mapping[str, int | None]) -> None:
    """Refuse more replies of a kind than there are replies.

    Raises:
        UsageError: it is so.
    """
    steps = counts["steps"]
    for kinds in (("parse_fail", "no_cmd"), ("parse_fail", "repaired")):  # a repaired reply may be without a command
        found = {kind: count for kind in kinds if (count := counts[kind])}
        if steps is not None and sum(found.values()) > steps:
            said = " and ".join(f"{row.columns[kind]} is {count}" for kind, count in found.items())
            raise UsageError(
                f"{row.where}: {said}, and {row.columns['steps']} is {steps}; expected no more such replies than "
                "replies; name the right columns, as in --columns steps=NAME, or rename those that count something else"
            )


def _known(text: str) -> str:
    return "" if text == "–" else text


def _outcome(row: _Row, reward: float | None, reading: Reading) -> tuple[Status, str]:
    """The outcome that is written, or else that of the reward; why the instrument failed makes it an error.

    Raises:
        UsageError: a trial has an outcome and an error, and the user did not say that the outcome counts.
    """
    error = _why(row)
    if (status := _written(row, "outcome", reading)) is None:
        if error and judged(reward, reading)[0] == "solved":  # a failure of the instrument is often recorded as 0
            if "reward" not in reading.columns:
                raise _contradicts(row, "reward", error)
            error = ""
        return judged(reward, reading, error)
    if status == "error":
        return status, error or UNKNOWN_OUTCOME
    if error and "outcome" not in reading.columns:
        raise _contradicts(row, "outcome", error)
    return status, ""


def _why(row: _Row) -> str:
    """Why the instrument failed; empty for a cell that says that it did not."""
    error = row.text("error")
    return "" if error.lower() in ("false", "no", "none", "null", "0") else error


def _contradicts(row: _Row, field: str, error: str) -> UsageError:
    name, said = row.columns[field], shown(repr(row.cells[field])[:60])
    return UsageError(
        f"{row.where}: {name} is {said}, and {row.columns['error']}, which is why the instrument failed, is "
        f"{shown(error[:60])!r}; empty one of the two, or say that the {field} counts: --columns {field}={name}"
    )


def _written(row: _Row, field: str, reading: Reading) -> Status | None:
    """The outcome that a cell says in a word or by a number; None for an empty cell."""
    written = row.cell(field)
    if written is None or (status := _WORDS.get(str(written).lower())) is not None:
        return None if written is None else status
    try:
        value = float(written)
    except (TypeError, ValueError):
        value = math.nan
    if not math.isfinite(value):
        raise row.wrong(field, "solved, unsolved or error, true or false, or a number")
    return reading.status(value)


def _check_agreement(where: str, cells: Cells, reading: Reading) -> None:
    """Refuse rows of which two columns say different outcomes, unless the user named one that counts.

    Beside an outcome, a reward or score may be a part of it, and says nothing else.

    Raises:
        UsageError: there is such a row.
    """
    parts = ("reward", "score") if "outcome" in cells.names else ()
    told = [name for name in ("outcome", *COLUMNS["reward"]) if name in cells.names and name not in parts]
    if len(told) < 2 or {"outcome", "reward"} & reading.columns.keys():
        return
    for number, row_cells in enumerate(zip(*map(cells.column, told), strict=True), 1):
        row = _Row(
            f"{where}, row {number}", dict(zip(told, told, strict=True)), dict(zip(told, row_cells, strict=True))
        )
        found = {name: said for name in told if (said := _written(row, name, reading)) not in (None, "error")}
        if len(set(found.values())) > 1:
            which = " and ".join(f"{name} is {shown(repr(row.cells[name])[:60])} ({found[name]})" for name in found)
            raise UsageError(f"{row.where}: {which}; say which column counts, as in --columns outcome={told[-1]}")
