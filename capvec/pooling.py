"""Poolings: the token of a trace whose residual is captured, or the tokens that it is averaged over."""

from __future__ import annotations

import re

from capvec.errors import UsageError

POOLINGS = ("last", "last-assistant", "mean-assistant", "mean-last:K")
"""The last token; the assistant's last token; all of the assistant's tokens; the last K tokens."""
_MEAN_LAST = re.compile(r"mean-last:([1-9]\d{0,8})", re.ASCII)


def parse_pooling(text: str) -> str:
    """Check a pooling by name.

    Raises:
        UsageError: the pooling is not one of `POOLINGS`.
    """
    if text not in POOLINGS[:-1] and not _MEAN_LAST.fullmatch(text):
        raise UsageError(f"--pooling {text!r}: expected one of {', '.join(POOLINGS)}, with K a whole number above 0")
    return text


def mean_last_of(pooling: str) -> int | None:
    """K of `mean-last:K`; None for any other pooling."""
    match = _MEAN_LAST.fullmatch(pooling)
    return int(match[1]) if match else None
