"""Whose fault it is where Docker fails with a task: the task's, if it fails again after another went well.

Docker's words do not tell. It fails by itself as it does for an image that has no shell.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from capvec.errors import InfrastructureError, SandboxUnavailable

PAUSES_S = (1.0, 5.0, 15.0)
"""Before each further try."""
_Found = TypeVar("_Found")


def tried_again(
    name: str, do: Callable[[], _Found], witness: Callable[[], object] | None, pause: Callable[[float], object]
) -> _Found | SandboxUnavailable:
    """Do again what Docker failed to do with a task, several times.

    Args:
        name: of the task.
        do: what failed.
        witness: does the like with a task with which it went well before; None where there is none.
        pause: waits for so many seconds.

    Returns:
        What `do` returns; or how Docker fails, where that is the task's fault.

    Raises:
        InfrastructureError: it is Docker's fault, or there is no witness to tell by.
    """
    for seconds in PAUSES_S:
        pause(seconds)
        try:
            return do()
        except SandboxUnavailable as error:
            failed = error
    if witness is None:
        raise _unknown(name, failed, "there is no task with which all goes well to tell by whose fault that is")
    try:
        witness()
    except SandboxUnavailable as error:
        raise _unknown(name, failed, f"fails with a task with which all went well, too: {error}") from error
    try:
        return do()
    except SandboxUnavailable as error:
        return error


def _unknown(name: str, failed: SandboxUnavailable, why: str) -> InfrastructureError:
    return InfrastructureError(
        f"task {name}: {failed}; this came {len(PAUSES_S) + 1} times within {sum(PAUSES_S):g} s or more, and {why}. "
        "It is not known whether the task is fit: make sure that Docker is well, and try again"
    )
