"""How capvec opens what a user or a downloaded folder names: regular files within bounds, and JSON and TOML in them.

A fifo, a device or a socket is refused and never waited for. A size is checked before anything is allocated for it.
JSON and TOML may nest `DEEPEST` levels and hold whole numbers of `LONGEST_NUMBER` digits and of 64 bits, respectively.
"""

from __future__ import annotations

import errno
import json
import os
import re
import stat
import struct
import sys
import tomllib
import zipfile
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, BinaryIO

from capvec.errors import UsageError

MIB, GIB = 1 << 20, 1 << 30
SETTINGS = MIB
"""Bytes of the largest `task.toml`."""
TEXT = 16 * MIB
"""Bytes of the largest text of a task, such as its instruction or Dockerfile."""
RECORD = 256 * MIB
"""Bytes of the largest JSON file of a run folder or of a model's."""
MOST_ENTRIES = 200_000
"""Files and folders of the largest folder that is searched."""
MOST_MEMBERS = 50_000
"""Members of the largest zip file."""
_ZIP_ENTRY = b"PK\x01\x02"
DEEPEST = 128
"""Levels of lists, objects and tables."""
LONGEST_NUMBER = 300
"""Digits of a whole number in JSON: a float holds no longer one."""
_TOML_WHOLE = 1 << 63
_TOML_PLACE = re.compile(r"^(?P<what>.*) \(at (?P<where>.*)\)$", re.DOTALL)
_TOML_PART = r"""(?:[A-Za-z0-9_-]++|"[^"\n]*+"|'[^'\n]*+')[ \t]*+"""
_TOML_DEEP_KEY = re.compile(rf"(?<![\w.-]){_TOML_PART}(?:\.[ \t]*+{_TOML_PART}){{{DEEPEST}}}")
"""A dotted key of too many parts. tomllib takes time and memory with the square of their number."""
_JSON_TEXT = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+"(\s*+:)?', re.DOTALL)
_JSON_NUMBER = re.compile(r"[0-9.eE+-]{3,}+|-[6-9]")
"""A number that is an object of its own; Python has the small whole ones once."""
_WEIGHTS = {"{": 131, "[": 88, ",": 9, ":": 22}
"""Sign of JSON → bytes that Python takes for it: an object with its first keys, a list with its first places, a place
in a list, and a place in an object."""
_SHORT = 8
"""Characters of what stands between two texts so often that its weight is kept."""
_NUMBER, _SHORT_TEXT, _NEW_KEY = 32, 80, 66
"""Bytes of a number, of a text beside its letters, and of a key in the parser's list of those it has met."""
TIMES = 9
"""Times its size that JSON may take in memory as values. It has its own size as text beside them."""
_MOST = {"{": 131, "[": 88 + _NUMBER, ",": 9 + _NUMBER, ":": 22 + _NUMBER + _NEW_KEY, '"': _SHORT_TEXT // 2}
"""Sign of JSON → the most bytes for it and a value that follows it."""
_ROOM = 64 * MIB
"""Bytes that any document may take in memory."""
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a fifo",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


# ------------------------------------------------------------------------------------------------ files


def shown(path: str | os.PathLike[str]) -> str:
    """A path as a message shows it: what cannot be printed is escaped, so that it stays on its line."""
    text = os.fspath(path)
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def open_regular(path: Path, largest: int) -> BinaryIO:
    """Open a regular file, or a link to one, for reading.

    Args:
        path: the file.
        largest: bytes that it may have.

    Raises:
        UsageError: it is missing, cannot be read, is no regular file, or is larger.
    """
    try:
        _check_kind(path, os.stat(path).st_mode)  # some devices act on being opened
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"{shown(path)}: no such file") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(path)}: cannot be read ({_reason(error)})") from error
    file = os.fdopen(handle, "rb")
    try:
        status = os.fstat(handle)
        _check_kind(path, status.st_mode)
        if status.st_size > largest:
            raise UsageError(f"{shown(path)}: has {size(status.st_size)}; expected at most {size(largest)}")
    except UsageError:
        file.close()
        raise
    return file


def size(count: int) -> str:
    """A number of bytes as a message shows it: `17 bytes`, `1.5 MiB`."""
    for unit, name in ((GIB, "GiB"), (MIB, "MiB")):
        if count >= unit:
            return f"{count / unit:.4g} {name}"
    return f"{count:,} bytes"


def check_regular(path: Path, largest: int) -> None:
    """Check a file that a library opens by its name.

    Raises:
        UsageError: as `open_regular`.
    """
    open_regular(path, largest).close()


def read_bytes(path: Path, largest: int) -> bytes:
    """The content of a regular file. It may grow while it is read, and no more than `largest` is taken.

    Raises:
        UsageError: as `open_regular`.
    """
    with open_regular(path, largest) as file:
        try:
            data = file.read(largest + 1)
        except OSError as error:
            raise UsageError(f"{shown(path)}: cannot be read ({_reason(error)})") from error
    if len(data) > largest:
        raise UsageError(f"{shown(path)}: grew beyond {size(largest)} while it was read")
    return data


def read_text(path: Path, largest: int) -> str:
    """The content of a text file in UTF-8.

    Raises:
        UsageError: as `open_regular`, or it is not UTF-8.
    """
    try:
        return read_bytes(path, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(path)}: byte {error.start} is not UTF-8; expected UTF-8 text") from error


def open_zip(file: BinaryIO, largest: int) -> zipfile.ZipFile:
    """Open a zip archive and check it before any of its members is unpacked.

    Args:
        file: open for reading; the archive does not close it.
        largest: bytes that all members together may unpack to.

    Raises:
        ValueError: it is none, or its members are too many or too large.
    """
    _check_members(file)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OverflowError, OSError, struct.error) as error:
        raise ValueError(f"a broken zip file ({error})") from error
    unpacked = sum(member.file_size for member in archive.infolist())
    if unpacked > largest:
        raise ValueError(f"a zip file that unpacks to {size(unpacked)}; expected at most {size(largest)}")
    return archive


def _check_members(file: BinaryIO) -> None:
    """Bound the entries of a zip file's directory, for each of which Python makes a large object."""
    file.seek(0)
    count, end = 0, b""
    while piece := file.read(MIB):
        count += (end + piece).count(_ZIP_ENTRY)
        end = piece[1 - len(_ZIP_ENTRY) :]
    if count > MOST_MEMBERS:
        raise ValueError(f"a zip file of {count:,} members; expected at most {MOST_MEMBERS:,}")


def walk(folder: Path, most: int = MOST_ENTRIES) -> Iterator[os.DirEntry[str]]:
    """Everything in a folder at any depth, in no order. A link to a folder is not followed.

    Raises:
        UsageError: a folder cannot be read, or there are more than `most` entries.
    """
    waiting, count = [folder], 0
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    count += 1
                    if count > most:
                        raise UsageError(f"{shown(folder)}: holds more than {most:,} files; name a smaller folder")
                    yield entry
                    if entry.is_dir(follow_symlinks=False):
                        waiting.append(Path(entry.path))
        except OSError as error:
            raise UsageError(f"{shown(here)}: cannot be read ({_reason(error)})") from error


def check_tree(folder: Path, what: str) -> int:
    """Check everything in a folder that others made, before any of it is opened.

    Args:
        folder: searched at any depth.
        what: it is, for messages, as `a task folder`.

    Returns:
        Bytes of all its files.

    Raises:
        UsageError: something is neither a folder nor a regular file, or a link leads out of the folder.
    """
    total = 0
    for entry in walk(folder):
        if (found := _odd(entry, folder)) is not None:
            remedy = f"{what} holds folders, regular files and links that stay inside it"
            raise UsageError(f"{shown(entry.path)}: {found}; {remedy}")
        if entry.is_file(follow_symlinks=False):
            total += entry.stat(follow_symlinks=False).st_size
    return total


def _odd(entry: os.DirEntry[str], folder: Path) -> str | None:
    """Why something has no place in a folder that others made."""
    if entry.is_symlink():
        target = leads_out(Path(entry.path), folder)
        loops = "is a link to itself" if is_loop(Path(entry.path)) else None
        return f"leads out of the folder, to {shown(target)}" if target is not None else loops
    if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
        return None
    return f"is {kind(entry.stat(follow_symlinks=False).st_mode)}"


def leads_out(path: Path, folder: Path) -> str | None:
    """Where a link leads if that is outside of a folder; None for a path inside of it."""
    target, root = os.path.realpath(path), os.path.realpath(folder)
    return None if os.path.commonpath([target, root]) == root else target


def is_loop(path: Path) -> bool:
    """Whether a link leads back to itself."""
    try:
        os.stat(path)
    except OSError as error:
        return error.errno == errno.ELOOP
    return False


def kind(mode: int) -> str | None:
    """What a file is if it is no regular one, as `a fifo`; None for a regular one."""
    if stat.S_ISREG(mode):
        return None
    return next((name for is_kind, name in _KINDS.items() if is_kind(mode)), "no regular file")


def _check_kind(path: Path, mode: int) -> None:
    if (found := kind(mode)) is not None:
        raise UsageError(f"{shown(path)}: is {found}; expected a regular file")


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or str(error)


# ------------------------------------------------------------------------------------------------ JSON and TOML


def parse_json(data: str | bytes) -> Any:
    """The value of a JSON text, in UTF-8, UTF-16 or UTF-32 where it is bytes.

    Raises:
        ValueError: not JSON, not Unicode, too deep, or with too long a number.
        TooHeavy: it takes more than 10 times its size in memory, text and values together, and the values more than
            64 MiB.
    """
    text = data if isinstance(data, str) else _decoded(data)
    if sum(_MOST.values()) * len(text) > _ROOM and _most_weight(text) > _ROOM:
        size = len(text.encode("utf-8", "surrogatepass")) if isinstance(data, str) else len(data)
        check_weight([text], (TIMES + 1) * size - sys.getsizeof(text) - (0 if isinstance(data, str) else size))
    try:
        value = json.loads(text, parse_int=_whole)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _check_depth(value)
    return value


def _decoded(data: bytes) -> str:
    encoding = json.detect_encoding(data)
    try:
        return data.decode(encoding, "surrogatepass")
    except UnicodeDecodeError as error:
        raise ValueError(f"byte {error.start} is no {encoding.upper()}") from error


def read_json(path: Path, largest: int = RECORD) -> Any:
    """The value of a JSON file.

    Raises:
        UsageError: as `open_regular`, or `parse_json` cannot read it.
    """
    try:
        return parse_json(read_bytes(path, largest))
    except ValueError as error:
        raise UsageError(f"{shown(path)}: not JSON ({error})") from error


def parse_toml(text: str, file: str) -> dict[str, Any]:
    """The tables of a TOML text.

    Args:
        text: at most `SETTINGS` characters.
        file: its name in messages.

    Raises:
        UsageError: not TOML, too deep, or with a whole number beyond 64 bits; the message names file, line and column
            where they are known.
    """
    if _TOML_DEEP_KEY.search(text):
        raise UsageError(f"{file}: a key has more than {DEEPEST} parts; expected tables that are nested less deeply")
    try:
        tables = tomllib.loads(text)
        _check_depth(tables)
    except tomllib.TOMLDecodeError as error:
        match = _TOML_PLACE.match(str(error))
        what, where = (match["what"], match["where"]) if match else (str(error), "unknown place")
        raise UsageError(f"{file}, {where}: not valid TOML: {what}") from error
    except RecursionError as error:
        raise UsageError(f"{file}: not valid TOML: {_TOO_DEEP}") from error
    except ValueError as error:  # of a number with thousands of digits, too
        reason = _TOO_DEEP if str(error) == _TOO_DEEP else "a value is out of range"
        raise UsageError(f"{file}: not valid TOML: {reason}") from error
    for value in _leaves(tables):
        if isinstance(value, int) and not -_TOML_WHOLE <= value < _TOML_WHOLE:
            raise UsageError(f"{file}: not valid TOML: a whole number is beyond 64 bits")
    return tables


_TOO_DEEP = f"nested more than {DEEPEST} levels deep"


def _whole(digits: str) -> int:
    if len(digits.lstrip("-")) > LONGEST_NUMBER:
        raise ValueError(f"a whole number of {len(digits):,} digits; expected at most {LONGEST_NUMBER}")
    return int(digits)


class TooHeavy(ValueError):
    """JSON that is small as text and large as Python's objects, such as millions of empty lists."""

    def __init__(self) -> None:
        super().__init__("so many lists and objects in so little text that they take more than 10 times its size")


def check_weight(texts: Iterable[str], allowed: int) -> None:
    """Check what the values of JSON texts take in memory together.

    Raises:
        TooHeavy: it is more than the bytes allowed, and more than 64 MiB.
    """
    allowed, total = max(_ROOM, allowed), 0
    for text in texts:
        most = _most_weight(text)
        total += most if most <= TIMES * len(text) else _weight(text, allowed - total)
        if total > allowed:
            raise TooHeavy


def _most_weight(text: str) -> int:
    letters = 4 * len(text) if "\\u" in text else sys.getsizeof(text)
    return letters + sum(weight * text.count(sign) for sign, weight in _MOST.items())


def _weight(text: str, enough: int) -> int:
    """Bytes of a text's values in memory, counted until they are more than enough."""
    total, at, keys = 0, 0, set[str]()
    for quoted in _JSON_TEXT.finditer(text):
        start = quoted.start()
        total += _short_weight(text[at:start]) if start - at <= _SHORT else _bare_weight(text, at, start)
        at = quoted.end()
        written = quoted[0]
        if not quoted[1]:
            total += _text_weight(written)
        elif written in keys:
            total += _WEIGHTS[":"]
        else:
            keys.add(written)
            total += _WEIGHTS[":"] + _text_weight(written) + _NEW_KEY
        if total > enough:
            return total
    return total + _bare_weight(text, at, len(text))


def _bare_weight(text: str, start: int, end: int) -> int:
    """Bytes of what stands between texts."""
    signs = sum(weight * text.count(sign, start, end) for sign, weight in _WEIGHTS.items())
    return signs + (_NUMBER * sum(1 for _ in _JSON_NUMBER.finditer(text, start, end)) if end - start > 2 else 0)


@lru_cache(1 << 12)
def _short_weight(signs: str) -> int:
    return _bare_weight(signs, 0, len(signs))


def _text_weight(written: str) -> int:
    if len(written) == 3 and written < '"\u0100':
        return 0  # Python has every letter of Latin-1 once
    return _SHORT_TEXT + 4 * len(written) if "\\u" in written else sys.getsizeof(written)


def _check_depth(value: Any) -> None:
    level = [value]
    for _ in range(DEEPEST):
        level = [item for one in level for item in _items(one) if isinstance(item, dict | list)]
        if not level:
            return
    raise ValueError(_TOO_DEEP)


def _items(value: Any) -> Any:
    return value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()


def _leaves(value: Any) -> Iterator[Any]:
    level = [value]
    while level:
        yield from (one for one in level if not isinstance(one, dict | list))
        level = [item for one in level for item in _items(one)]
