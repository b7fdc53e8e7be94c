"""`capvec doctor`: what is there and what is missing."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("doctor", help="say what is there and what is missing, each with its remedy")
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    """1 when something is missing."""
    from capvec.setup.doctor import examine, report  # noqa: PLC0415

    findings = examine()
    print(report(findings))
    return 0 if all(finding.ok for finding in findings) else 1
