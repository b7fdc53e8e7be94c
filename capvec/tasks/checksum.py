"""The identity of a task: a digest of everything in its folder."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

from capvec.reading import MIB, open_regular
from capvec.tasks.files import LARGEST_TASK

_PIECE = MIB
_JUNK = frozenset({"__pycache__", ".DS_Store"})
"""Files that tools leave behind; they are not part of the task."""


def folder_checksum(folder: Path) -> str:
    """SHA-256, hex, over the sorted relative paths, contents and executable bits of the files in a folder.

    Every entry is prefixed by its length, so that different folders never give the same bytes. A symbolic link counts
    by its target's name and is not followed. Empty folders do not count, since git does not keep them.
    """
    digest = hashlib.sha256()
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in _files(folder)):
        if path.is_symlink():
            target = os.fsencode(os.readlink(path))
            digest.update(_opening("link", name, len(target)) + target)
            continue
        with open_regular(path, LARGEST_TASK) as file:
            status = os.fstat(file.fileno())
            digest.update(_opening("exec" if status.st_mode & stat.S_IXUSR else "file", name, status.st_size))
            while piece := file.read(_PIECE):
                digest.update(piece)
    return digest.hexdigest()


def folder_modes(folder: Path) -> str:
    """SHA-256, hex, over the paths and permission bits of the files and folders in a folder, which `COPY` keeps.

    The checksum leaves them out but for a file's executable bit, as git does.
    """
    digest = hashlib.sha256()
    files = _files(folder)
    within = {parent for path in files for parent in path.parents if folder in parent.parents}
    for name, path in sorted((path.relative_to(folder).as_posix(), path) for path in (*files, *within)):
        if not path.is_symlink():
            digest.update(_opening("mode", name, stat.S_IMODE(path.stat().st_mode)))
    return digest.hexdigest()


def _opening(kind: str, name: str, length: int) -> bytes:
    encoded = name.encode("utf-8", "surrogateescape")
    return f"{kind} {len(encoded)} {length}\n".encode() + encoded


def _files(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in _JUNK]
        found += [Path(root) / name for name in (*files, *links) if name not in _JUNK]
    return found
