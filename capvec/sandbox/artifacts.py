"""Artifacts: what a verifier in a container of its own gets of the agent's work.

What is in them may be the agent's, that of a service too, so little of it is believed: there is a limit on bytes and on
files, all belongs to root, bits that give privileges are cleared, and no link is followed. A special file, and a link
that leads out of the artifact, becomes a link to itself. A verifier sees that something is there, and reaches nothing
by it.
"""

from __future__ import annotations

import posixpath
import tarfile
import tempfile
from collections.abc import Container, Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from capvec.records import Artifact, TaskStep
from capvec.sandbox.base import MAIN, Budget

PUBLISHED = "/logs/artifacts"
"""A folder whose content is an artifact of every task, as in Harbor."""
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


def _place(artifact: Artifact) -> PurePosixPath:
    return PurePosixPath("/", artifact.destination or artifact.source)


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
    cleaned = cast("BinaryIO", tempfile.SpooledTemporaryFile(_IN_MEMORY))  # noqa: SIM115 (the caller closes it)
    with (
        tarfile.open(fileobj=_Stream(chunks), mode="r|") as given,  # type: ignore[call-overload]
        tarfile.open(fileobj=cleaned, mode="w") as written,
    ):
        within = _rewrite(given, written, artifact, budget)
    if not within:
        cleaned.close()
        return None
    cleaned.seek(0)
    return cleaned


def _rewrite(given: tarfile.TarFile, written: tarfile.TarFile, artifact: Artifact, budget: Budget) -> bool:
    """Copy what is safe of an archive. False as soon as it goes beyond the budget."""
    root = PurePosixPath("/", artifact.source)
    files: set[str] = set()
    for member in given:
        below = PurePosixPath(*PurePosixPath(member.name).parts[1:])
        if ".." in below.parts or _excluded(below, artifact.exclude):
            continue
        if not budget.spend(member.size):
            return False
        _make_safe(member, root, root / below, files)
        if member.isreg():
            files.add(member.name)
        written.addfile(member, given.extractfile(member) if member.isreg() else None)
    return True


def is_folder(archive: BinaryIO) -> bool:
    """Whether a cleaned archive begins with a folder, and so is one of a folder."""
    with tarfile.open(fileobj=archive) as opened:
        first = opened.next()
    archive.seek(0)
    return first is not None and first.isdir()


def _make_safe(member: tarfile.TarInfo, root: PurePosixPath, path: PurePosixPath, files: Container[str]) -> None:
    """Make owner, mode, name and link of a member of an archive safe; `files` are the names of earlier ones."""
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    member.pax_headers = {}
    member.name = str(path).lstrip("/")
    member.mode &= 0o777
    if member.isdir():
        member.mode |= 0o700
    elif member.isreg():
        member.mode |= 0o400  # a root without capabilities may read no other
    elif not _leads_inside(member, root, path, files):
        member.type, member.linkname, member.size = tarfile.SYMTYPE, path.name, 0


def _leads_inside(member: tarfile.TarInfo, root: PurePosixPath, path: PurePosixPath, files: Container[str]) -> bool:
    """Whether a member is a link within the artifact. A hard link then names the new place of its file."""
    if member.issym():
        return PurePosixPath(posixpath.normpath(path.parent / member.linkname)).is_relative_to(root)
    if member.islnk():
        member.linkname = str(root / PurePosixPath(*PurePosixPath(member.linkname).parts[1:])).lstrip("/")
        return member.linkname in files
    return False


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
