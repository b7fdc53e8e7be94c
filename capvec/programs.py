"""Programs of this package, as processes of their own."""

from __future__ import annotations

import sys


def python(module: str, *arguments: str) -> tuple[str, ...]:
    """The command that runs a module by this interpreter.

    The working directory stays off its path (`-P`), since what a user was given may lie there: a file `json.py` of it
    would run in the library's place.

    Args:
        module: its full name.
        arguments: of the command line.
    """
    return (sys.executable, "-P", "-m", module, *arguments)
