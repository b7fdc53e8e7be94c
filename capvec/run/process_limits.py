"""What the operating system allows a run: what it needs is allowed, or the run refused, before anything starts."""

from __future__ import annotations

import resource

from capvec.errors import UsageError
from capvec.storage import RAISE_LIMIT

_OF_A_RUN, _OF_A_TRIAL = 128, 64
"""Files that are open besides those of trials, and those of a trial with the sandboxes before and after its own; 22 and
at most 47 were counted."""
_ADDRESSES = 3 << 30
"""Bytes of address space of each process. With the smallest of models, 1.5 GB did not do, and 2.5 GB did."""


def allow_trials(at_a_time: int, option: str) -> None:
    """Let this process, and those that it starts, have what so many trials at a time need.

    Args:
        at_a_time: trials.
        option: that asks for so many, as the user typed it.

    Raises:
        UsageError: the operating system allows fewer open files, or less address space.
    """
    _allow(resource.RLIMIT_NOFILE, _OF_A_RUN + _OF_A_TRIAL * at_a_time, f"{option} needs", "open files", RAISE_LIMIT)
    more = "raise the limit of memory (`ulimit -v`) and try again"
    _allow(resource.RLIMIT_AS, _ADDRESSES, "a run needs", "bytes of address space, and its model's weights", more)


def _allow(kind: int, count: int, needs: str, what: str, remedy: str) -> None:
    """Raise this process's own limit to a count, if it is lower; refuse where it may not."""
    soft, hard = resource.getrlimit(kind)
    if resource.RLIM_INFINITY != hard < count:
        raise UsageError(f"{needs} {count:,} {what}, and this process may have {hard:,}: {remedy}")
    if resource.RLIM_INFINITY != soft < count:
        resource.setrlimit(kind, (count, hard))
