"""Checks of what a user typed. Each error names the option, what was received and what was expected."""

from __future__ import annotations

import math
from typing import Any

from capvec.errors import UsageError

_LARGEST = (1 << 63) - 1


def split(option: str, text: str) -> list[str]:
    """Split a list: `"a, b"` → `["a", "b"]`.

    Raises:
        UsageError: an entry is empty.
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(parts):
        raise UsageError(f"{option} {text!r}: expected values separated by commas, got an empty one")
    return parts


def number(option: str, text: str | float, minimum: float = -math.inf, maximum: float = math.inf) -> float:
    """Read a finite number.

    Raises:
        UsageError: not a number, not finite, or out of range.
    """
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value) or not minimum <= value <= maximum:
        if math.isfinite(maximum):
            raise UsageError(f"{option} {text!r}: expected a number from {minimum:g} to {maximum:g}")
        bound = f" of at least {minimum:g}" if math.isfinite(minimum) else ""
        raise UsageError(f"{option} {text!r}: expected a number{bound}, as in {option} 4 or {option} 0.5")
    return value


def at_least(option: str, text: str | int, minimum: int, hint: str = "") -> int:
    """Read a whole number.

    Raises:
        UsageError: not a whole number, too small, or beyond 64 bits.
    """
    try:
        value = int(text)
    except ValueError:
        value = minimum - 1
    if value < minimum:
        raise UsageError(
            f"{option} {text!r}: expected a whole number of at least {minimum}{' ' + hint if hint else ''}"
        )
    if value > _LARGEST:
        raise UsageError(f"{option} {text!r:.40}: expected a whole number of at most {_LARGEST}")
    return value


def choice(option: str, value: str, choices: tuple[Any, ...]) -> Any:
    """Check that a value is one of a few.

    Raises:
        UsageError: it is none of them.
    """
    if value not in choices:
        raise UsageError(f"{option} {value!r}: expected one of {', '.join(choices)}")
    return value
