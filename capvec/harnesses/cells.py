"""The cells of a table in a file: CSV, JSON lines, or Parquet.

Only the columns that are used are kept, so that a table takes no more than its file suggests, however wide it is.
"""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TextIO

from capvec.errors import UsageError
from capvec.reading import GIB, MIB, open_regular, shown, size
from capvec.text import counted, one_line

_LARGEST = 4 * GIB
"""Bytes of a table."""
_MOST_COLUMNS, _LONGEST_HEAD, _LONGEST_ROW = 1000, 1 << 16, 4 * MIB
"""Columns of a table, bytes of the first line of a CSV file, and characters of one of its rows."""
_SEPARATORS = ",\t;|"
_MOST_ROWS, _BYTES_OF_ROW = 200_000, 40
"""Rows that any Parquet file may have, and bytes of a larger file for each of its rows."""
_UNPACKED, _RATIO = 64 * MIB, 10
"""Bytes that the used columns of a Parquet file may always unpack to, and times its size that a larger file's may."""


class Cells(NamedTuple):
    """What a table holds."""

    names: Sequence[str]
    """Of all columns, in their order."""
    column: Callable[[str], Sequence[Any]]
    """The cells of a column that is used, by its name, from the first row on."""


def check_names(where: str, names: Sequence[str]) -> None:
    """Refuse columns that are too many, or of which two have one name.

    Raises:
        UsageError: it is so.
    """
    if len(names) > _MOST_COLUMNS:
        raise UsageError(f"{where}: {len(names):,} columns; expected at most {_MOST_COLUMNS:,}")
    if twice := [name for name, count in Counter(names).items() if count > 1]:
        raise UsageError(f"{where}: the column {twice[0]!r} is there twice; expected each name once")


# ------------------------------------------------------------------------------------------------ JSON


def json_cells(path: Path, values: Sequence[Any]) -> Cells:
    """The table of JSON lines or of a JSON list.

    Raises:
        UsageError: an entry is no object, or the columns are too many.
    """
    for number, value in enumerate(values, 1):
        if isinstance(value, UsageError):
            raise value
        if not isinstance(value, dict):
            raise UsageError(f"{shown(path)}, entry {number}: expected an object with the fields of a trial")
    names = list(dict.fromkeys(name for value in values for name in value))
    check_names(shown(path), names)
    return Cells(names, lambda name: [value.get(name) for value in values])


# ------------------------------------------------------------------------------------------------ CSV


def csv_cells(path: Path, used: Collection[str]) -> Cells:
    """The table of a CSV file, whatever separates its cells.

    Args:
        path: of the file.
        used: names of the columns that are kept where they are there.

    Raises:
        UsageError: it is no table, or a row has more or fewer cells than the first line.
    """
    with open_regular(path, _LARGEST) as file:
        if len(file.readline(_LONGEST_HEAD + 1)) > _LONGEST_HEAD:
            raise UsageError(f"{shown(path)}: its first line is longer than 64 KiB; expected the names of columns")
        file.seek(0)
        text = io.TextIOWrapper(file, encoding="utf-8-sig", newline="")
        try:
            separator = _separator(text.readline(), used)
            text.seek(0)
            return _csv_cells(shown(path), text, separator, used)
        except UnicodeDecodeError as error:
            raise UsageError(
                f"{shown(path)}: not in UTF-8 ({one_line(str(error))}); save it as CSV in UTF-8"
            ) from error
        except (ValueError, csv.Error) as error:
            raise UsageError(f"{shown(path)}: not a table ({one_line(str(error))})") from error


def _separator(head: str, used: Collection[str]) -> str:
    """What separates the names of columns in a line: the sign that makes most that are used, and then most at all."""
    if not head.strip():
        raise ValueError("its first line is blank; expected the names of columns")
    names = {sign: next(csv.reader([head], delimiter=sign)) for sign in _SEPARATORS}
    return max(_SEPARATORS, key=lambda sign: (sum(name.strip() in used for name in names[sign]), len(names[sign])))


def _csv_cells(where: str, text: TextIO, separator: str, used: Collection[str]) -> Cells:
    rows = _rows(text, separator)
    _, names = next(rows, (0, None))
    if names is None:
        raise ValueError("expected the names of columns in its first line")
    names = [name.strip() for name in names]
    check_names(where, names)
    kept: dict[str, list[str]] = {name: [] for name in names if name in used}
    places = [(names.index(name), column) for name, column in kept.items()]
    misfit = None
    for number, (end, cells) in enumerate(rows, 1):
        if misfit is None and len(cells) != len(names):
            misfit = number, end, len(cells)
        # Each row may end in a separator, if the first one does.
        if misfit is not None and (misfit[0] > 1 or len(cells) != len(names) + 1 or cells[-1].strip()):
            first, line, count = misfit
            raise UsageError(
                f"{where}, row {first} (line {line}): {counted(count, 'cell')}; expected {len(names)}, one "
                f"for each name of the first line; put a cell that holds {separator!r} in quotes, and leave an "
                "empty one empty"
            )
        for place, column in places:
            column.append(cells[place])
    return Cells(names, kept.__getitem__)


def _rows(text: TextIO, separator: str) -> Iterator[tuple[int, list[str]]]:
    """The number of a row's last line, and the row's cells. A blank row is left out."""
    lines = _Lines(text)
    rows = csv.reader(lines, delimiter=separator, strict=True)
    for cells in rows:
        lines.of_row = 0
        if len(cells) > 1 or "".join(cells).strip():
            yield rows.line_num, cells


class _Lines:
    """The lines of a text, with a bound on those of one row, whose cells Python makes all at once."""

    def __init__(self, text: TextIO) -> None:
        self._text = text
        self.of_row = 0
        """Characters since the last row."""

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._text.readline(_LONGEST_ROW + 1)
        self.of_row += len(line)
        if self.of_row > _LONGEST_ROW:
            raise ValueError(f"a row has more than {_LONGEST_ROW:,} characters")
        if not line:
            raise StopIteration
        return line


# ------------------------------------------------------------------------------------------------ Parquet


def parquet_cells(path: Path, used: Collection[str]) -> Cells:
    """The table of a Parquet file, without what pandas notes there about its own types and index.

    Args:
        path: of the file.
        used: names of the columns that are kept where they are there.

    Raises:
        UsageError: pyarrow is not installed or cannot read it, it unpacks to far more than it has, or a used column
            holds lists or the like.
    """
    try:
        import pyarrow  # noqa: PLC0415 (an extra)
    except ImportError as error:
        raise UsageError(
            f"{shown(path)}: is Parquet, which is read through pyarrow; install it with "
            "`pip install 'capvec[parquet]'`, or save the table as CSV"
        ) from error
    with open_regular(path, _LARGEST) as file:
        try:
            return _parquet_cells(shown(path), file, used)
        except (pyarrow.ArrowException, ValueError, OSError, LookupError, OverflowError) as error:
            raise UsageError(f"{shown(path)}: not a table that pyarrow reads ({one_line(str(error))})") from error


def _parquet_cells(where: str, file: io.BufferedReader, used: Collection[str]) -> Cells:
    from pyarrow import parquet  # noqa: PLC0415

    length = os.fstat(file.fileno()).st_size
    footer = parquet.read_metadata(file)
    paths = [footer.schema.column(index).path for index in range(footer.num_columns)]
    check_names(where, paths)
    texts = [path for path in paths if path in used]  # each text is kept once, however many rows have it
    table = parquet.ParquetFile(file, metadata=footer, read_dictionary=texts, pre_buffer=False)
    schema = table.schema_arrow
    check_names(where, schema.names)
    kept: dict[str, list[Any]] = {name: [] for name in schema.names if name in used}
    for name in kept:
        if not _is_plain(schema.field(name).type):
            found = str(schema.field(name).type)[:60]
            raise UsageError(f"{where}: column {name} is of type {found}; expected texts, numbers, or true and false")
    _check_rows(where, footer.num_rows, length)
    groups = [footer.row_group(index) for index in range(footer.num_row_groups)]
    chunks = [group.column(index) for group in groups for index in range(group.num_columns)]
    unpacked = sum(chunk.total_uncompressed_size for chunk in chunks if chunk.path_in_schema in kept)
    if unpacked > (most := max(_UNPACKED, _RATIO * length)):
        raise UsageError(f"{where}: unpacks to {size(unpacked)}; expected at most {size(most)}; save it as CSV")
    rows = 0
    for batch in table.iter_batches(columns=[*kept], use_threads=False):
        rows += batch.num_rows
        _check_rows(where, rows, length)  # the footer may lie
        for name, column in kept.items():
            column.extend(_plain(batch.column(name)))
    return Cells(schema.names, kept.__getitem__)


def _check_rows(where: str, rows: int, length: int) -> None:
    """Bound the rows, each of which becomes a trial, by the bytes of the file."""
    if rows > (most := max(_MOST_ROWS, length // _BYTES_OF_ROW)):
        raise UsageError(
            f"{where}: {rows:,} rows in {size(length)}; expected at most {most:,}; save a longer table as CSV"
        )


def _is_plain(kind: Any) -> bool:
    """Whether a column of this type has one text, number or date in each row."""
    from pyarrow import types  # noqa: PLC0415

    if types.is_dictionary(kind):
        return _is_plain(kind.value_type)
    texts = types.is_string(kind) or types.is_large_string(kind)
    return bool(texts or types.is_primitive(kind) or types.is_decimal(kind) or types.is_null(kind))


def _plain(column: Any) -> list[Any]:
    """The cells of a column of pyarrow's. Equal texts are one object, without blanks around it, which stays one."""
    from pyarrow import types  # noqa: PLC0415

    if not types.is_dictionary(column.type):
        return list(column.to_pylist())
    values = [value.strip() if isinstance(value, str) else value for value in column.dictionary.to_pylist()]
    return [None if index is None else values[index] for index in column.indices.to_pylist()]
