"""The files that a run has open: as many as it needs are allowed before anything starts."""

from __future__ import annotations

import resource

from capvec.errors import UsageError
from capvec.storage import RAISE_LIMIT

_OF_A_RUN, _OF_A_TRIAL = 128, 32
"""Files that are open besides those of trials, and those of a trial; 22 and 20 were counted."""


def allow_trials(at_a_time: int, option: str) -> None:
    """Let this process, and those that it starts, open the files of so many trials at a time.

    Args:
        at_a_time: trials.
        option: that asks for so many, as the user typed it.

    Raises:
        UsageError: the operating system allows fewer files.
    """
    count = _OF_A_RUN + _OF_A_TRIAL * at_a_time
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if resource.RLIM_INFINITY != hard < count:
        raise UsageError(f"{option} needs {count:,} open files, and this process may have {hard:,}: {RAISE_LIMIT}")
    if resource.RLIM_INFINITY != soft < count:
        resource.setrlimit(resource.RLIMIT_NOFILE, (count, hard))
