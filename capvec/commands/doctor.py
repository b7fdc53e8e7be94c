"""`capvec doctor`: what is there and what is missing."""

from __future__ import annotations

import argparse

EPILOG = "exit code: 0 when nothing but what is optional is missing, else 1"


def run(options: argparse.Namespace) -> int:
    """Print the table; 1 when something is missing."""
    from capvec.setup.doctor import complete, examine, report  # noqa: PLC0415

    findings = examine(options.docker_host or ())
    print(report(findings))
    return 0 if complete(findings) else 1
