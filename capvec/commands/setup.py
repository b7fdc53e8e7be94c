"""`capvec setup`: prepare what a sweep needs."""

from __future__ import annotations

import argparse

from capvec.commands.shared import say

EPILOG = """\
Docker is installed and started only on Debian and Ubuntu and only as root.
Elsewhere setup says what to type. What is there already is left as it is.
Docker's plugins buildx and compose are installed likewise; where the release
has none, or without root, they come from Debian 13 into ~/.docker/cli-plugins.
"""


def run(options: argparse.Namespace) -> int:
    """Prepare it, and print each step."""
    from capvec.setup.steps import set_up  # noqa: PLC0415

    set_up(say, options.docker_host or ())
    return 0
