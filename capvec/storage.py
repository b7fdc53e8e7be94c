"""Writing files: whole or not at all, and one sentence where the disk refuses."""

from __future__ import annotations

import errno
import os
import resource
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from capvec.errors import StorageFault
from capvec.reading import open_regular

RAISE_LIMIT = "raise the limit of open files (`ulimit -n`) and try again"
_REMOVE_FILES = "remove files there, since that disk can hold no more of them (`df -i`), and try again"
_ADVICE = {
    errno.EMFILE: RAISE_LIMIT,
    errno.ENFILE: RAISE_LIMIT,
    errno.ENOSPC: "make room on that disk and try again",
    errno.EDQUOT: "make room in your quota and try again",
    errno.EROFS: "choose a place that can be written",
    errno.EACCES: "choose a place that you may write, or change its permissions",
    errno.EPERM: "choose a place that you may write, or change its permissions",
    errno.EIO: "the disk fails; choose another",
    errno.EFBIG: "raise the limit of a file's size (`ulimit -f`) and try again",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.ENOTDIR: "a part of that path is a file; choose another place",
    errno.EEXIST: "something else is there; choose another place",
}


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """What the operating system refuses while a file or folder is written, as one sentence that names it.

    Raises:
        StorageFault: it refused; the message says why and what to do.
    """
    try:
        yield
    except OSError as error:
        raise StorageFault(refusal(path, error)) from error


@contextmanager
def whole_or_empty(folder: Path) -> Iterator[None]:
    """Empty a folder that held nothing before, where what the context writes there cannot be completed."""
    try:
        yield
    except BaseException:
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)
        raise


def refusal(path: Path | str, error: OSError) -> str:
    """The sentence on a path that cannot be written."""
    what_to_do = _REMOVE_FILES if _has_no_inodes(path, error) else advice(error)
    return f"{path} cannot be written ({error.strerror or error}): {what_to_do}"


def _has_no_inodes(path: Path | str, error: OSError) -> bool:
    """Whether a disk has room, and refuses since it has no inodes left."""
    if error.errno != errno.ENOSPC:
        return False
    there = next((place for place in (Path(path), *Path(path).absolute().parents) if place.exists()), Path("/"))
    disk = os.statvfs(there)
    return disk.f_files > 0 and disk.f_ffree == 0 and disk.f_bavail > 0


def advice(error: OSError) -> str:
    """What to do about what the operating system refused."""
    return _ADVICE.get(error.errno or 0, "mend that and try again")


def no_more_files(error: BaseException) -> str:
    """One sentence where an error came of too many open files, whatever it was wrapped in; empty otherwise."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
            return f"{cause.strerror} (this process may have {limit:,}): {RAISE_LIMIT}"
        cause = cause.__cause__ or cause.__context__
    return ""


def write_text(path: Path, text: str) -> None:
    """Replace a file by this text in UTF-8, as `write_bytes` does.

    Characters that UTF-8 cannot hold, such as half of a surrogate pair, are written as escapes.

    Raises:
        StorageFault: the disk is full or read-only, or refuses otherwise.
    """
    write_bytes(path, text.encode(errors="backslashreplace"))


def write_bytes(path: Path, data: bytes) -> None:
    """Replace a file. A reader sees the old content or the new, and a failure leaves the old.

    Raises:
        StorageFault: the disk is full or read-only, or refuses otherwise.
    """
    new = path.with_name(f".{path.name}.{os.getpid()}.new")
    with writing(path):
        try:
            with new.open("wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(new, path)
        except BaseException:
            new.unlink(missing_ok=True)
            raise


def copy_file(source: Path, target: Path, largest: int) -> None:
    """Copy a regular file; what is wrong is told of the one of the two that it is wrong with.

    Args:
        source: the file.
        target: where its content goes.
        largest: bytes that it may have.

    Raises:
        UsageError: `source` is missing, cannot be read, is no regular file, or is larger.
        StorageFault: `target` cannot be written.
    """
    with open_regular(source, largest) as content, writing(target), target.open("wb") as file:
        shutil.copyfileobj(content, file)


def make_folder(path: Path) -> None:
    """Make a folder and those above it, unless it is there.

    Raises:
        StorageFault: it cannot be made.
    """
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
