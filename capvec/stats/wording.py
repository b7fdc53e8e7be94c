"""Numbers as every sentence and every table shows them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from capvec.stats.intervals import Interval  # which needs SciPy; plans are in words without it


def signed(value: float | None) -> str:
    """`+0.25`, `−0.10`, or `–`. `−0.00` is a little below 0; 0 itself, up to floating point, is `+0.00`."""
    return "–" if value is None else f"{round(value, 9) + 0.0:+.2f}".replace("-", "−")


def estimate(value: float, interval: Interval | None) -> str:
    """`+0.25 [+0.10, +0.40]`, or the value alone."""
    return signed(value) + (f" [{signed(interval.low)}, {signed(interval.high)}]" if interval is not None else "")


def rounded_up(bound: float) -> str:
    """A limit as it may be printed: an effect just above the number that is shown is one that is excluded."""
    return f"{math.ceil(round(100 * bound, 9)) / 100:.2f}"


def counted(number: int, thing: str) -> str:
    """`1 task`, `2 tasks`."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
