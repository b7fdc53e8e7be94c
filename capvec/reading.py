"""How capvec opens what a user or a downloaded folder names: regular files within bounds.

A fifo, a device or a socket is refused and never waited for. A size is checked before anything is allocated for it.
"""

from __future__ import annotations

import errno
import os
import stat
import struct
import zipfile
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO

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
_ZIP_END, _ZIP64_LOCATOR, _ZIP64_END = struct.Struct("<4s4H2LH"), struct.Struct("<4sLQL"), struct.Struct("<4sQ2H2L4Q")
_KINDS = {
    stat.S_ISDIR: "a folder",
    stat.S_ISFIFO: "a fifo",
    stat.S_ISSOCK: "a socket",
    stat.S_ISCHR: "a device",
    stat.S_ISBLK: "a device",
}


def shown(path: str | os.PathLike[str]) -> str:
    """A path as a message shows it: what cannot be printed is escaped, so that it stays on its line."""
    text = os.fspath(path)
    return "".join(letter if letter.isprintable() else letter.encode("unicode_escape").decode() for letter in text)


def open_regular(path: Path, largest: int) -> BufferedReader:
    """Open a regular file, or a link to one, for reading.

    Args:
        path: the file.
        largest: bytes that it may have.

    Raises:
        UsageError: it is missing, cannot be read, is no regular file, or is larger.
    """
    handle, _ = _opened(path, largest)
    return os.fdopen(handle, "rb")


def ends_of(path: Path, largest: int, count: int) -> tuple[bytes, bytes]:
    """The first byte of a regular file and its last `count`, without what is between.

    Raises:
        UsageError: as `open_regular`.
    """
    handle, length = _opened(path, largest)
    try:
        return os.pread(handle, 1, 0), os.pread(handle, count, max(0, length - count))
    except OSError as error:
        raise UsageError(f"{shown(path)}: cannot be read ({_reason(error)})") from error
    finally:
        os.close(handle)


def _opened(path: Path, largest: int) -> tuple[int, int]:
    """A handle of a regular file, and its size."""
    try:
        _check_kind(path, os.stat(path).st_mode)  # some devices act on being opened
        handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as error:
        raise UsageError(f"{shown(path)}: no such file") from error
    except (OSError, ValueError) as error:
        raise UsageError(f"{shown(path)}: cannot be read ({_reason(error)})") from error
    try:
        status = os.fstat(handle)
        _check_kind(path, status.st_mode)
        if status.st_size > largest:
            raise UsageError(f"{shown(path)}: has {size(status.st_size)}; expected at most {size(largest)}")
    except UsageError:
        os.close(handle)
        raise
    return handle, status.st_size


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
            data = file.read(min(largest + 1, MIB))  # it makes room for all that it is asked for
            if len(data) == MIB:
                data += file.read(largest + 1 - MIB)
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
        ValueError: it is none, another reader may see other members, or they are too many or too large.
    """
    _check_members(file)
    count = _check_directory(file)
    try:
        archive = zipfile.ZipFile(file)
    except (zipfile.BadZipFile, NotImplementedError, EOFError, OverflowError, OSError, struct.error) as error:
        raise ValueError(f"a broken zip file ({error})") from error
    if count != (found := len(archive.infolist())):
        raise ValueError(f"a zip file of {found:,} members whose end says {count:,}, so that they are in doubt")
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


def _check_directory(file: BinaryIO) -> int:
    """Refuse a zip file on whose members two readers may differ, and give their number.

    Its end is the last of the file, says where the directory begins, and follows it. A record of 64 bits, which long
    files and torch's have, stands between them and says the same; a locator follows that record.

    Raises:
        ValueError: it is otherwise.
    """
    length = file.seek(0, os.SEEK_END)
    before = max(0, length - _ZIP_END.size - _ZIP64_LOCATOR.size - _ZIP64_END.size)
    file.seek(before)
    tail = file.read()
    stop = len(tail) - _ZIP_END.size
    if stop < 0 or not tail.startswith(b"PK\x05\x06", stop):
        raise ValueError("a broken zip file, or one with a comment or something else behind its end")
    *_, count, extent, start, comment = _ZIP_END.unpack_from(tail, stop)
    agree = not comment
    if tail.startswith(b"PK\x06\x07", max(0, stop - _ZIP64_LOCATOR.size)):
        short, stop = (count, extent, start), stop - _ZIP64_LOCATOR.size - _ZIP64_END.size
        if stop < 0:
            raise ValueError("a broken zip file (it is cut off)")
        mark, rest, *_, count, extent, start = _ZIP64_END.unpack_from(tail, stop)
        _, _, place, _ = _ZIP64_LOCATOR.unpack_from(tail, stop + _ZIP64_END.size)
        agree &= (mark, rest, place) == (b"PK\x06\x06", _ZIP64_END.size - 12, before + stop)
        agree &= all(map(_in_short, short, (count, extent, start), (0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF)))
    if not agree or start + extent != before + stop:
        raise ValueError("a zip file whose directory is not where its end says, so that its members are in doubt")
    return int(count)


def _in_short(short: int, number: int, most: int) -> bool:
    """Whether a short field is that of a number, or says that a longer field holds it."""
    return short in (number, most)


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
