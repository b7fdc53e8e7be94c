"""Finds the documents in a folder or a file: JSON, JSON lines, and zip files, known by their content."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import TIMES, RepeatedKey, TooHeavy, check_weight, parse_json
from capvec.reading import GIB, MIB, leads_out, open_regular, open_zip, read_bytes, size, walk
from capvec.traces.document import Archive, NotATrace

LARGEST_FILE = 4 * GIB
"""Bytes of the largest file of traces."""
_MARKS = b"\xef\xbb\xbf\xff\xfe\x00 \t\r\n"
"""What may stand before a JSON value: marks of the byte order, the other bytes of UTF-16 and UTF-32, white space."""
_COMPRESSED = {b"\x1f\x8b": "gzip", b"\x28\xb5\x2f\xfd": "zstd", b"BZh": "bzip2", b"\xfd7zXZ": "xz"}
_UNPACKED, _RATIO = 256 * MIB, 50
"""Bytes that a zip file may always unpack to, and times its size that a larger one may."""
_FIRST_OF_LINES = re.compile(r"\s*+([^\n]*+)\n\s*+(?=\S)")
"""The first line of several that are not blank."""
_LINE, _ROOM = 600, 64 * MIB
"""Bytes in memory of the least value of a line, and those that the lines of any file may take."""


class Repeats(NotATrace):
    """JSON in which a key stands twice in one object. It refuses a file that has traces."""

    def __init__(self, value: Any, error: RepeatedKey) -> None:
        super().__init__(f"{error}, so that one value would be lost")
        self.value = value
        """The value with the last of each."""


def files_in(path: Path) -> list[Path]:
    """The files of a folder at any depth in order, or the file itself.

    Raises:
        UsageError: a folder cannot be read, or holds too many files.
    """
    if not path.is_dir():
        return [path]
    return sorted(Path(entry.path) for entry in walk(path) if not entry.is_dir(follow_symlinks=False))


def load(file: Path, folder: Path | None = None) -> tuple[Any, list[str]]:
    """The value of a file, and for a file of JSON lines what to call each of its values.

    A file of JSON lines has the list of its values, with a `UsageError` in the place of a line that is not JSON.

    Args:
        file: JSON, JSON lines, or a zip file.
        folder: the folder that is searched, which links may not leave; None for a file that the user named.

    Raises:
        NotATrace: the file is not JSON, nor a zip file, nor a regular file in the folder; `Repeats` if only a key that
            stands twice speaks against it.
        UsageError: it cannot be read, or is larger than `LARGEST_FILE`.
    """
    if folder is not None and file.is_symlink() and leads_out(file, folder) is not None:
        raise NotATrace("a link out of the folder: copy the folder with `cp -rL` to read it")
    if not os.path.isfile(file) and os.path.lexists(file):
        raise NotATrace("no regular file")
    with open_regular(file, 1 << 62) as opened:
        head = opened.read(64)
        if head.startswith(b"PK\x03\x04"):
            return _archive(opened), []
        if len(head) == 64 and not head.strip(_MARKS):
            head += opened.read(MIB)
    for mark, name in _COMPRESSED.items():
        if head.startswith(mark):
            raise NotATrace(f"compressed ({name}): unpack it first")
    if not head.strip(_MARKS):
        raise NotATrace("empty" if len(head) < MIB else "blank for more than 1 MiB")
    if head.lstrip(_MARKS)[:1] not in {b"{", b"["}:
        raise NotATrace("not JSON")
    return _json(file)


def _archive(opened: Any) -> Archive:
    length = os.fstat(opened.fileno()).st_size
    try:
        with open_zip(opened, max(_UNPACKED, _RATIO * length)) as archive:
            # Members that Inspect compressed with Zstandard are for its own library, in a process with bounds.
            known = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
            listed = [member for member in archive.infolist() if member.filename.endswith(".json")]
            members = [member for member in listed if member.compress_type in known]
            texts = (archive.read(member).decode("utf-8", "replace") for member in members)
            check_weight(texts, TIMES * sum(member.file_size for member in members))
            return Archive(frozenset(archive.namelist()))
    except ValueError as error:
        raise NotATrace(str(error)) from error
    except (zipfile.BadZipFile, zlib.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise NotATrace(f"a zip file with a member that cannot be read ({error})") from error


def _json(file: Path) -> tuple[Any, list[str]]:
    data = read_bytes(file, LARGEST_FILE)
    encoding = json.detect_encoding(data)
    try:
        text = data.decode(encoding, "surrogatepass")
    except ValueError as error:
        raise NotATrace(f"not text ({error})") from error
    first = _FIRST_OF_LINES.match(text)
    if first is not None and _is_json(first[1]):
        del text, first  # it may take 4 times the bytes
        if encoding != "utf-8":
            data = data.decode(encoding, "surrogatepass").encode("utf-8", "surrogatepass")
        return _json_lines(file, data)
    del data, first
    try:
        return parse_json(text, whole=True), []
    except RepeatedKey as error:
        raise Repeats(parse_json(text), error) from error
    except TooHeavy as error:
        raise NotATrace(str(error)) from error
    except ValueError as error:
        why = str(error)
    raise NotATrace(f"not JSON ({why})")


def _json_lines(file: Path, data: bytes) -> tuple[list[Any], list[str]]:
    """The values of the lines that are not blank."""
    if _LINE * data.count(b"\n") > max(_ROOM, 7 * len(data)):
        raise NotATrace(f"so many short lines that they take more than 10 times the file's {size(len(data))} in memory")
    try:
        check_weight((_text(line) for line in io.BytesIO(data)), TIMES * len(data))
    except TooHeavy as error:
        raise NotATrace(str(error)) from error
    numbers = [number for number, line in enumerate(io.BytesIO(data), start=1) if line.strip()]
    return [*_values(file, data)], [f", line {number}" for number in numbers]


def _is_json(line: str) -> bool:
    try:
        return isinstance(parse_json(line), dict | list)
    except ValueError:
        return False


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogatepass")


def _values(file: Path, data: bytes) -> Iterator[Any]:
    for number, line in enumerate(io.BytesIO(data), start=1):
        if not line.strip():
            continue
        try:
            yield parse_json(_text(line), whole=True)
        except RepeatedKey as error:
            yield UsageError(f"{file}, line {number}: {error}, so that one value would be lost; expected each key once")
        except ValueError as error:
            yield UsageError(f"{file}, line {number}: not JSON ({error}); expected a value, as on the lines before")
