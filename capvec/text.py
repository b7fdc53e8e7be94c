"""Numbers as every sentence and table shows them, and text from models and containers made safe to show."""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capvec.records import Interval

WIDTH = 100
"""Characters of a line in the terminal."""
LONGEST = 300
"""Characters of text from outside that are shown on one line."""
_LEAST_NAME = 8
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)", re.DOTALL)
"""Control sequences of a terminal, and strings for it: colours, the cursor, its title (ECMA-48, 5.4 and 5.6)."""
_HIDDEN = {"Cc", "Cf", "Cs", "Zl", "Zp"}
"""Unicode's categories of control characters, of those that turn the direction of writing, of half characters, and of
separators of lines and paragraphs."""


# ------------------------------------------------------------------------------------------------ numbers


def signed(value: float | None) -> str:
    """`+0.25`, `−0.10`, or `–`. `−0.00` is a little below 0; 0 itself, up to floating point, is `+0.00`."""
    return "–" if value is None else f"{round(value, 9) + 0.0:+.2f}".replace("-", "−")


def estimate(value: float, interval: Interval | None) -> str:
    """`+0.25 [+0.10, +0.40]`, or the value alone."""
    return signed(value) + (f" [{signed(interval.low)}, {signed(interval.high)}]" if interval is not None else "")


def rounded_up(bound: float) -> str:
    """An upper limit, rounded so that effects above the printed number are excluded."""
    return f"{math.ceil(round(100 * bound, 9)) / 100:.2f}"


def counted(number: int, thing: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def number(value: float | None, digits: int = 2) -> str:
    """A number as the report shows it; `–` for one that does not exist, `inf` for an infinite odds ratio."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """To three decimals: `0.182`, `<0.001`, or `–`."""
    return "<0.001" if value is not None and value < 0.001 else number(value, 3)


def p_in_words(value: float) -> str:
    """For a sentence: `p = 0.182`, or `p < 0.001`."""
    return "p < 0.001" if value < 0.001 else f"p = {value:.3f}"


def interval(value: Interval | None) -> str:
    """`.08–.61`, or `–`."""
    return "–" if value is None else f"{value.low:.2f}–{value.high:.2f}"


# ------------------------------------------------------------------------------------------------ tables


def align(rows: Sequence[Sequence[str]], width: int = WIDTH) -> list[str]:
    """Columns side by side, the first flush left, the others flush right, in lines of `width` characters.

    Names in the first column are cut in the middle as far as that takes, since configs often differ at their ends.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    room = max(_LEAST_NAME, width - sum(wide + 2 for wide in widths[1:]))
    widths[0] = min(widths[0], room)
    return [
        "  ".join(
            [
                _shorten(row[0], room).ljust(widths[0]),
                *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True)),
            ]
        )
        for row in rows
    ]


def _shorten(name: str, room: int) -> str:
    if len(name) <= room:
        return name
    tail = (room - 1) // 2
    return f"{name[: room - 1 - tail]}…{name[-tail:]}"


# ------------------------------------------------------------------------------------------------ text from outside


def printable(text: str) -> str:
    """The text without control characters and escape sequences. Line ends stay."""
    return "".join(
        letter if letter == "\n" or unicodedata.category(letter) not in _HIDDEN else " " if letter.isspace() else ""
        for letter in _ESCAPES.sub("", text)
    )


def visible(text: str) -> str:
    r"""The text with what `printable` leaves out as escapes, so that names differ where they do: ESC is `\x1b`.

    Line ends and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        letter if letter in "\n\t" or unicodedata.category(letter) not in _HIDDEN else _escaped(letter)
        for letter in text
    )


def _escaped(letter: str) -> str:
    return letter.encode("unicode_escape").decode()


def encodable(text: str) -> str:
    """The text with escapes in place of lone surrogates, which UTF-8 cannot hold."""
    return text.encode("utf-8", "backslashreplace").decode()


def one_line(text: str) -> str:
    """`printable`, on one line of at most `LONGEST` characters."""
    return " ".join(printable(text).split())[:LONGEST]


def reason(error: BaseException) -> str:
    """Why a file could not be read, on one line."""
    if isinstance(error, RecursionError):
        return "it is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return f"byte {error.start} is no UTF-8"
    return one_line(getattr(error, "strerror", None) or str(error))


def enumerated(names: Sequence[str], most: int = 20) -> str:
    """`a, b and 3 more`: the first names of a list."""
    rest = len(names) - most
    return ", ".join(names[:most]) + (f" and {rest:,} more" if rest > 0 else "")


def code(text: str) -> str:
    """`one_line` as a code span of Markdown, in which neither Markdown nor HTML is read; empty for no text."""
    line = one_line(text).replace("`", "'")
    return f"`{line}`" if line else ""


def not_a_formula(text: str) -> str:
    """Text as a cell of a CSV file, with an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{text}" if len(text) > 1 and text[0] in "=+-@\t\r" else text
