"""Text that may come from a model or a container, for a place where it must stay text: a terminal, or Markdown."""

from __future__ import annotations

import re
import unicodedata

LONGEST = 300
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)", re.DOTALL)
"""Control sequences of a terminal, and strings for it: colours, the cursor, its title (ECMA-48, 5.4 and 5.6)."""
_HIDDEN = {"Cc", "Cf", "Cs"}
"""Unicode's categories of control characters, of those that turn the direction of writing, and of half characters."""


def printable(text: str) -> str:
    """The text without anything that a terminal would act on instead of showing it; line ends stay."""
    return "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in _HIDDEN else " " if letter.isspace() else ""
        for letter in _ESCAPES.sub("", text)
    )


def one_line(text: str) -> str:
    """`printable`, on one line of at most `LONGEST` characters."""
    return " ".join(printable(text).split())[:LONGEST]


def code(text: str) -> str:
    """`one_line` as a code span of Markdown, inside of which neither Markdown nor HTML is read; empty for no text."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`" if line else ""
