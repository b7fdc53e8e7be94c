"""The identity of a task: a digest of everything in its folder."""

from __future__ import annotations

import hashlib
import os
import stat
from pathlib import Path

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
            kind, content = "link", os.fsencode(os.readlink(path))
        else:
            kind = "exec" if path.stat().st_mode & stat.S_IXUSR else "file"
            content = path.read_bytes()
        encoded = name.encode("utf-8", "surrogateescape")
        digest.update(f"{kind} {len(encoded)} {len(content)}\n".encode())
        digest.update(encoded)
        digest.update(content)
    return digest.hexdigest()


def _files(folder: Path) -> list[Path]:
    found = []
    for root, folders, files in os.walk(folder):
        links = [name for name in folders if (Path(root) / name).is_symlink()]
        folders[:] = [name for name in folders if name not in _JUNK]
        found += [Path(root) / name for name in (*files, *links) if name not in _JUNK]
    return found
