"""Reading the files of a task folder, with errors that name the file."""

from __future__ import annotations

from pathlib import Path

from capvec.errors import UsageError


def require(file: Path, expected: str) -> None:
    """Check that a file exists.

    Raises:
        UsageError: it does not; the message says what was expected there.
    """
    if not file.is_file():
        raise UsageError(f"{file}: no such file; expected {expected}")


def read_text(file: Path, expected: str) -> str:
    """The content of a text file.

    Raises:
        UsageError: it does not exist or is not UTF-8.
    """
    require(file, expected)
    try:
        return file.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(f"{file}: byte {error.start} is not UTF-8; expected UTF-8 text") from error
