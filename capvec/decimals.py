"""Numbers as they were written: the exact value that a float stands for."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from functools import lru_cache

DIGITS = 15
"""Significant digits that every float keeps. What differs beyond them is rounding, as in 0.1 + 0.2 and 0.3."""
_SIMPLE = 1000
"""Largest denominator of a mantissa that is taken for a fraction, as 1/3 is for 0.333333333333333."""


def exact(number: float | Fraction) -> Fraction:
    """The number that a float was written for: the simple fraction beside it, or else the decimal of its 15 digits.

    Beside it is what differs from it by at most 1 in the 15th digit, as 0.794117647058823 does from 27/34. A decimal of
    up to 12 digits is itself. So sums and comparisons of such numbers are exact on any scale.
    """
    return number if isinstance(number, Fraction) else _meant(number)


@lru_cache(1 << 12)
def _meant(number: float) -> Fraction:
    mantissa, _, exponent = f"{number:.{DIGITS - 1}e}".partition("e")
    decimal = Fraction(mantissa)
    simple = decimal.limit_denominator(_SIMPLE)
    meant = simple if abs(simple - decimal) <= Fraction(10, 10**DIGITS) else decimal
    return meant * Fraction(10) ** int(exponent)


def reaches(number: float, least: float) -> bool:
    """Whether a number is at least a threshold, where both are finite: 0.6499999999999999 reaches 0.65."""
    return exact(number) >= exact(least)


def as_written(number: float) -> str:
    """A number with all its digits, so that one just below a threshold does not read like it."""
    return f"{number:.{DIGITS}g}"


def exact_mean(numbers: Sequence[float | Fraction]) -> Fraction:
    """The mean of at least one number."""
    parts = [(times, exact(number)) for number, times in Counter(numbers).items()]  # of many most are the same few
    whole = math.lcm(*(part.denominator for _, part in parts))
    total = sum(times * part.numerator * (whole // part.denominator) for times, part in parts)
    return Fraction(total, whole * len(numbers))
