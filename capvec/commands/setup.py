"""`capvec setup`: make ready what a sweep needs."""

from __future__ import annotations

import argparse
from typing import Any


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("setup", help="make ready what a sweep needs: container engine, base image, model")
    parser.set_defaults(run=run)


def run(_options: argparse.Namespace) -> int:
    """Do it, saying what is done."""
    from capvec.setup.steps import set_up  # noqa: PLC0415

    set_up(lambda line: print(f"capvec: {line}", flush=True))
    return 0
