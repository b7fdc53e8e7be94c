"""One writer at a time: the lock of a run folder, which ends with the process that holds it."""

from __future__ import annotations

import fcntl
import json
import os
import platform
import stat
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from capvec.errors import StorageFault, UsageError
from capvec.reading import kind, shown
from capvec.serial import Record
from capvec.storage import make_folder, writing
from capvec.text import one_line

LOCK = ".lock"
"""In a run folder: its lock, which says who writes there. It goes when the writer ends."""
_AS_IT_IS = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
"""A link is not followed, and a fifo not waited for."""
_SETTLED_S = 0.2
"""Time in which a process that has just taken the lock has written its name, and one that only looked has gone."""


@dataclass(frozen=True)
class Writer(Record):
    """The process that writes a run folder."""

    host: str
    pid: int
    since: str
    """When it took the lock, in ISO 8601."""
    command: str

    @classmethod
    def this(cls) -> Writer:
        """The process that asks."""
        command = " ".join((Path(sys.argv[0]).name, *sys.argv[1:]))
        now = datetime.now(UTC).isoformat(sep=" ", timespec="seconds")
        return cls(platform.node(), os.getpid(), now, one_line(command))

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}, since {self.since} (`{self.command}`)"


@contextmanager
def locked(folder: Path, option: str) -> Iterator[None]:
    """Hold the lock of a folder, which is made if need be; what was made and is empty at the end is removed.

    The lock is `flock` on a file in the folder. The kernel releases it when this process ends, however it ends.

    Args:
        folder: to write to.
        option: by which the user chose it, for the message.

    Raises:
        UsageError: another process holds it, and the message names that; or the file system has no locks.
        StorageFault: the folder cannot be made or written.
    """
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        descriptor = _acquire(folder, option)
        try:
            yield
        finally:
            _give_up(folder)
            os.close(descriptor)
    finally:
        with suppress(OSError):  # it holds what was made
            for path in made:
                path.rmdir()


@contextmanager
def locked_new(folder: Path, option: str) -> Iterator[None]:
    """As `locked`, of a folder that holds nothing yet.

    Raises:
        UsageError: it holds something, or as `locked`.
        StorageFault: as `locked`.
    """
    _refuse_filled(folder, option)
    with locked(folder, option):
        _refuse_filled(folder, option)
        yield


def refuse_used(folder: Path, option: str) -> None:
    """Refuse what another process writes now, or what exists and is not a folder that holds nothing but a lock.

    Raises:
        UsageError: it is so.
    """
    refuse_if_written(folder, option)
    _refuse_filled(folder, option)


def _refuse_filled(folder: Path, option: str) -> None:
    if folder.exists() and (not folder.is_dir() or any(path.name != LOCK for path in folder.iterdir())):
        raise UsageError(f"{option} {folder}: exists and is not an empty folder; choose a new one")


def refuse_if_written(folder: Path, option: str) -> None:
    """Refuse a folder that another process writes now.

    Raises:
        UsageError: one does.
    """
    if (writer := writer_of(folder)) is not None:
        raise _refusal(folder, option, writer)


def writer_of(folder: Path) -> Writer | str | None:
    """Who writes a folder now; in words, where it has not said so yet; None where nobody does."""
    try:
        descriptor = os.open(folder / LOCK, os.O_RDONLY | _AS_IT_IS)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        return None
    except BlockingIOError:
        return _read(descriptor)
    except OSError:  # no locks there, so that nobody could take it
        return None
    finally:
        os.close(descriptor)


def _acquire(folder: Path, option: str) -> int:
    """A descriptor that holds the lock, of the file that has its name."""
    deadline = time.monotonic() + _SETTLED_S
    while True:
        make_folder(folder)
        try:
            with writing(folder / LOCK):
                descriptor = os.open(folder / LOCK, os.O_RDWR | os.O_CREAT | _AS_IT_IS, 0o666)
        except StorageFault:
            _refuse_odd(folder)
            if folder.is_dir():
                raise
            continue  # an earlier writer removed the folder in between
        try:
            _refuse_odd(folder)
            if _take(descriptor, folder):
                return descriptor
            if time.monotonic() > deadline:
                raise _refusal(folder, option, _read(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        time.sleep(_SETTLED_S / 10)


def _refuse_odd(folder: Path) -> None:
    """Refuse a lock that is no file of its own, in a folder that came from elsewhere: it would be written to."""
    with suppress(FileNotFoundError):
        found = os.lstat(folder / LOCK)
        what = "a link" if stat.S_ISLNK(found.st_mode) else kind(found.st_mode)
        if what is None and found.st_nlink > 1:
            what = "another name of a file"
        if what is not None:
            raise UsageError(
                f"{shown(folder / LOCK)}: is {what}; expected a regular file, which capvec makes itself: remove it"
            )


def _refusal(folder: Path, option: str, writer: Writer | str) -> UsageError:
    return UsageError(f"{folder} is being written by {writer}: wait until that has ended, or choose another {option}")


def _take(descriptor: int, folder: Path) -> bool:
    """Lock an open file and write who has it; False where another has it, or its name is another file's by now."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        if os.fstat(descriptor).st_ino != os.stat(folder / LOCK).st_ino:
            return False
    except (BlockingIOError, FileNotFoundError):
        return False
    except OSError as error:
        raise UsageError(
            f"{folder} cannot be locked ({error.strerror}), so nothing would keep a second run out of it: put it on a "
            "file system with file locks"
        ) from error
    try:
        with writing(folder / LOCK):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(Writer.this().to_json()).encode(), 0)
    except StorageFault:
        _give_up(folder)
        raise
    return True


def _give_up(folder: Path) -> None:
    """Remove the lock that this process holds."""
    with suppress(OSError):
        (folder / LOCK).unlink(missing_ok=True)


def _read(descriptor: int) -> Writer | str:
    try:
        return Writer.from_json(json.loads(os.pread(descriptor, 10_000, 0)))
    except (ValueError, UsageError):
        return "another process"
