"""Artifacts: what a verifier in a container of its own gets of the agent's work.

What is in them may be the agent's, that of a service too, so little of it is believed: there is a limit on bytes and on
files, all belongs to root, bits that give privileges are cleared, and no link is followed. A special file, and a link
that leads out of the artifact, becomes a link to itself. A verifier sees that something is there, and reaches nothing
by it.

A link that is kept goes up first, from a real folder and at most to the artifact's own, and then only down. Each name
on the way down is a file, a folder or another such link. So it ends in an artifact, whatever the other links are.
"""

from __future__ import annotations

import posixpath
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import IO, BinaryIO, Self, cast

from capvec.sandbox.base import MAIN, MOST_BYTES, Budget
from capvec.task_records import Artifact, TaskStep

PUBLISHED = "/logs/artifacts"
"""A folder whose content is an artifact of every task, as in Harbor."""
RESERVED = ("/tests", "/logs/verifier")
"""Where a verifier has its own files and writes its rewards: nothing there comes from the agent."""
_IN_MEMORY = 1 << 24


def artifacts_of(step: TaskStep) -> tuple[Artifact, ...]:
    """The artifacts of a step, first the folder that every task publishes."""
    declared = any(one.source.rstrip("/") == PUBLISHED and one.service == MAIN for one in step.artifacts)
    return step.artifacts if declared else (Artifact(PUBLISHED), *step.artifacts)


def given_way(step: TaskStep) -> dict[Artifact, Artifact]:
    """Artifact that is not copied → that of another service in whose place it would lie.

    As in Harbor, those of `main` come first, and each keeps its place on the host: its `destination`, or else its path.
    """
    found: dict[Artifact, Artifact] = {}
    kept: list[Artifact] = []
    for artifact in sorted(artifacts_of(step), key=lambda one: one.service != MAIN):
        others = (one for one in kept if one.service != artifact.service and _overlap(_place(one), _place(artifact)))
        if (first := next(others, None)) is not None:
            found[artifact] = first
        else:
            kept.append(artifact)
    return found


def reserved_in(artifact: Artifact) -> tuple[str, ...]:
    """The reserved places that lie in an artifact, or in which it lies. Nothing of them is copied."""
    return tuple(place for place in RESERVED if _overlap(_absolute(artifact.source), PurePosixPath(place)))


def is_reserved(artifact: Artifact) -> bool:
    """Whether an artifact lies in a reserved place as a whole."""
    return _lies_in_reserved(_absolute(artifact.source))


def _lies_in_reserved(path: PurePosixPath) -> bool:
    return any(path.is_relative_to(place) for place in RESERVED)


def _place(artifact: Artifact) -> PurePosixPath:
    return _absolute(artifact.destination or artifact.source)


def _absolute(path: str) -> PurePosixPath:
    """A path from the root. Two slashes at the beginning are one, as for Linux."""
    return PurePosixPath("/", path.lstrip("/"))


def _overlap(one: PurePosixPath, other: PurePosixPath) -> bool:
    return one.is_relative_to(other) or other.is_relative_to(one)


def clean(chunks: Iterable[bytes], artifact: Artifact, budget: Budget) -> BinaryIO | None:
    """Rewrite an archive of a container's path, as Docker gives it, for the place where it is unpacked.

    Args:
        chunks: the archive; every name in it begins with the last part of the path.
        artifact: what it is an archive of.
        budget: what is left; the artifact counts against it even if it goes beyond.

    Returns:
        An archive to unpack at `/`; None if the artifact goes beyond the budget.
    """
    cleaned = _spool()
    with (
        tarfile.open(fileobj=_Stream(chunks), mode="r|") as given,  # type: ignore[call-overload]
        tarfile.open(fileobj=cleaned, mode="w") as written,
        _LeftOut() as left_out,
    ):
        within = _rewrite(given, written, artifact, budget, left_out)
    if not within:
        cleaned.close()
        return None
    cleaned.seek(0)
    return cleaned


@contextmanager
def joined(archives: Sequence[BinaryIO]) -> Iterator[BinaryIO]:
    """One archive of what is in several, in their order: Docker starts a program for each that it unpacks."""
    if len(archives) == 1:
        yield archives[0]
        return
    with _spool() as whole:
        with tarfile.open(fileobj=whole, mode="w") as written:
            for archive in archives:
                with tarfile.open(fileobj=archive) as given:
                    for member in given:
                        written.addfile(member, given.extractfile(member) if member.isreg() else None)
        whole.seek(0)
        yield whole


def _spool() -> BinaryIO:
    return cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY))


class _LeftOut:
    """The content of files that were left out, since a later hard link may be another name of one of them."""

    def __init__(self) -> None:
        self._content, self._size = _spool(), 0
        self._places: dict[str, tuple[int, int]] = {}
        """Name → where the content begins and how long it is."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._content.close()

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, name: str, content: IO[bytes], size: int) -> None:
        """Keep the content of a file, unless more than an artifact may hold is kept: then only its size."""
        self._places[name] = (self._size, size)
        if self._size + size <= MOST_BYTES:
            self._content.seek(self._size)
            shutil.copyfileobj(content, self._content)
            self._size += size
        else:
            self._places[name] = (0, MOST_BYTES + 1)

    def take(self, name: str) -> tuple[BinaryIO, int]:
        """The content of a file, to read from, and its size."""
        begin, size = self._places.pop(name)
        self._content.seek(begin)
        return self._content, size


def _rewrite(
    given: tarfile.TarFile, written: tarfile.TarFile, artifact: Artifact, budget: Budget, left_out: _LeftOut
) -> bool:
    """Copy what is safe of an archive. False as soon as it goes beyond the budget."""
    root = _absolute(artifact.source)
    files: dict[str, str] = {}
    for member in given:
        name, content = member.name, given.extractfile(member) if member.isreg() else None
        below = PurePosixPath(*PurePosixPath(name).parts[1:])
        if ".." in below.parts:
            continue
        if _excluded(below, artifact.exclude) or _lies_in_reserved(root / below):
            if content is not None:
                left_out.add(name, content, member.size)
            continue
        if member.islnk() and member.linkname in left_out:
            name, member.type = member.linkname, tarfile.REGTYPE
            content, member.size = left_out.take(name)
        if not budget.spend(member.size):
            return False
        _make_safe(member, root, root / below, files)
        if member.isreg():
            files[name] = member.name
        written.addfile(member, content)
    return True


def _make_safe(member: tarfile.TarInfo, root: PurePosixPath, path: PurePosixPath, files: Mapping[str, str]) -> None:
    """Make owner, mode, name and link of a member of an archive safe; `files` has the places of earlier files."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.pax_headers = {}
    member.name = str(path).lstrip("/")
    member.mode &= 0o777
    if member.isdir():
        member.mode |= 0o700
    elif member.isreg():
        member.mode |= 0o400  # a root without capabilities may read no other
    elif (aim := _safe_aim(member, root, path, files)) is not None:
        member.linkname = aim
    else:
        member.type, member.linkname, member.size = tarfile.SYMTYPE, path.name, 0


def _safe_aim(
    member: tarfile.TarInfo, root: PurePosixPath, path: PurePosixPath, files: Mapping[str, str]
) -> str | None:
    """Where a link within the artifact leads, in the form that is safe beside any others; None for anything else."""
    if member.islnk():
        return files.get(member.linkname)
    if not member.issym():
        return None
    absolute = member.linkname.startswith("/")
    aim = _absolute(posixpath.normpath(member.linkname if absolute else path.parent / member.linkname))
    if not aim.is_relative_to(root):
        return None
    return str(aim) if absolute else posixpath.relpath(aim, path.parent)


def _excluded(path: PurePosixPath, patterns: Sequence[str]) -> bool:
    """Whether a pattern matches the path, one of its names, or a folder on the way to it."""
    names = (*path.parts, *(str(parent) for parent in path.parents), str(path))
    return any(fnmatchcase(name, pattern.rstrip("/")) for pattern in patterns for name in names)


class _Stream:
    """Chunks as a file that can only be read forwards."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks: Iterator[bytes] = iter(chunks)
        self._rest = b""

    def read(self, size: int) -> bytes:
        while len(self._rest) < size and (chunk := next(self._chunks, b"")):
            self._rest += chunk
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece
