"""All of set-up, in order."""

from __future__ import annotations

from collections.abc import Callable

from capvec.models import ensure_pocket
from capvec.setup.base_image import ensure_base_image
from capvec.setup.docker import ensure_engine


def set_up(say: Callable[[str], None] = print) -> None:
    """A container engine, the sandboxes' base image and the bundled model; does nothing that is already done.

    Raises:
        UsageError: something is missing that cannot be installed here; the message says what to do.
        SandboxUnavailable: the container engine stopped answering on the way.
    """
    ensure_engine(say)
    ensure_base_image(say)
    ensure_pocket(say)
