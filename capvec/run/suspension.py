"""What this process did while it was suspended: the time limits of containers went on, so it must be done anew.

Every trial and every check of a task is done in such a block. Being suspended takes none of a trial's tries, since no
trial can cause it.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from capvec.errors import InfrastructureError, ProcessStopped
from capvec.signals import times_continued


@contextmanager
def unsuspended() -> Iterator[None]:
    """Refuse whatever comes of the block, a fault included, if this process was suspended meanwhile.

    Raises:
        ProcessStopped: it was.
    """
    before, fault = times_continued(), None
    try:
        yield
    except InfrastructureError as error:
        if times_continued() == before:
            raise
        fault = error
    if times_continued() != before:
        raise ProcessStopped(
            "this process was stopped and continued (Ctrl-Z and fg, SIGSTOP and SIGCONT) while the trial ran, and the "
            "time limits of its commands went on"
        ) from fault
