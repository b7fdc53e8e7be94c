"""Reading the files of a task folder, with errors that name the file."""

from __future__ import annotations

import os
from pathlib import Path

from capvec.errors import UsageError
from capvec.reading import GIB, TEXT, check_tree, read_bytes, shown, size

LARGEST_TASK = 4 * GIB
"""Bytes of all files of a task folder."""
IGNORING = ".harborignore"
"""In a folder of tests or of a solution, a file of patterns of what Harbor does not copy."""


def require(file: Path, expected: str) -> None:
    """Check that a file exists.

    Raises:
        UsageError: it does not; the message says what was expected there.
    """
    if not file.is_file():
        there = "not a regular file" if os.path.lexists(file) else "no such file"
        raise UsageError(f"{shown(file)}: {there}; expected {expected}")


def read_text(file: Path, expected: str, largest: int = TEXT) -> str:
    """The content of a text file.

    Args:
        file: its path.
        expected: what it should be, for messages.
        largest: bytes that it may have.

    Raises:
        UsageError: it does not exist, is no regular file, is larger, or is not UTF-8.
    """
    require(file, expected)
    try:
        return read_bytes(file, largest).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{shown(file)}: byte {error.start} is not UTF-8; expected UTF-8 text") from error


def check_task_tree(folder: Path) -> None:
    """Check everything in a task folder before any of it is opened, hashed or copied into a container.

    Raises:
        UsageError: something is neither a folder nor a regular file, a link leads out of the folder, there is more than
            a task may have, or it says what of it is not to be copied.
    """
    total = check_tree(folder, "a task folder")
    for name in ("tests", "solution", "steps/*/tests", "steps/*/solution"):
        for ignoring in folder.glob(f"{name}/**/{IGNORING}"):
            raise UsageError(
                f"{shown(ignoring)}: not supported, since every file of the folder is copied; expected no file of this "
                "name: remove it, with the files that it excludes"
            )
    if total > LARGEST_TASK:
        raise UsageError(f"{shown(folder)}: its files have {size(total)}; expected at most {size(LARGEST_TASK)}")
