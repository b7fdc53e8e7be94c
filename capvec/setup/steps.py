"""The steps of set-up, in order."""

from __future__ import annotations

from collections.abc import Callable

from capvec.models import ensure_pocket
from capvec.setup.base_image import ensure_base_image
from capvec.setup.docker import ensure_docker
from capvec.setup.plugins import ensure_plugins


def set_up(say: Callable[[str], None] = print) -> None:
    """Prepare Docker, its plugins, the base image of the sandboxes and the bundled model, as far as they are missing.

    Raises:
        UsageError: something is missing and cannot be installed here. The message says what to do.
        SandboxUnavailable: Docker stopped answering meanwhile.
    """
    ensure_docker(say)
    ensure_plugins(say)
    ensure_base_image(say)
    ensure_pocket(say)
