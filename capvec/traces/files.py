"""Finds the documents in a folder or a file: JSON, JSON lines, and zip files, known by their content."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.traces.document import Archive, NotATrace

_MARKS = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
"""What may stand before a JSON value: marks of the byte order, the other bytes of UTF-16 and UTF-32, white space."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}


def files_in(path: Path) -> list[Path]:
    """The files of a folder at any depth in order, or the file itself."""
    return sorted(file for file in path.rglob("*") if file.is_file()) if path.is_dir() else [path]


def load(file: Path) -> tuple[Any, list[str]]:
    """The value of a file, and for a file of JSON lines what to call each of its values.

    A file of JSON lines has the list of its values, with a `UsageError` in the place of a line that is not JSON.

    Raises:
        NotATrace: the file is not JSON, nor a zip file.
    """
    with file.open("rb") as opened:
        head = opened.read(64)
    if head.startswith(b"PK\x03\x04"):
        return _archive(file), []
    for mark, name in _COMPRESSED.items():
        if head.startswith(mark):
            raise NotATrace(f"compressed ({name}): unpack it first")
    if not head.strip(_MARKS):
        raise NotATrace("empty")
    if head.lstrip(_MARKS)[:1] not in {b"{", b"["}:
        raise NotATrace("not JSON")
    return _json(file)


def _archive(file: Path) -> Archive:
    try:
        with zipfile.ZipFile(file) as archive:
            return Archive(frozenset(archive.namelist()))
    except (zipfile.BadZipFile, OSError) as error:
        raise NotATrace(f"a broken zip file ({error})") from error


def _json(file: Path) -> tuple[Any, list[str]]:
    data = file.read_bytes()
    try:
        text = data.decode(json.detect_encoding(data), "surrogatepass")
    except ValueError as error:
        raise NotATrace(f"not text ({error})") from error
    try:
        return json.loads(text), []
    except (ValueError, RecursionError) as error:
        lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
        if len(lines) == 1 or not _is_json(lines[0][1]):
            raise NotATrace(f"not JSON ({error})") from error
    return [*_values(file, lines)], [f", line {number}" for number, _ in lines]


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict | list)
    except (ValueError, RecursionError):
        return False


def _values(file: Path, lines: list[tuple[int, str]]) -> Iterator[Any]:
    for number, line in lines:
        try:
            yield json.loads(line)
        except (ValueError, RecursionError) as error:
            yield UsageError(f"{file}, line {number}: not JSON ({error}); expected a trace, as on the lines before")
