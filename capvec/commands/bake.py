"""`capvec bake`: a model folder that is steered without a hook."""

from __future__ import annotations

import argparse
import os

from capvec.commands.shared import say
from capvec.programs import brief_waits

EPILOG = """\
The folder is loaded again and compared with the hook: logits and tokens. It is
deleted if they differ.

example: capvec bake --direction vectors/dir.pt --layer 22 --alpha 1 --out model
"""


def run(options: argparse.Namespace) -> int:
    """Write the folder, and check it against the hook."""
    from capvec.publish.bake.order import parse_order  # noqa: PLC0415

    order = parse_order(vars(options))
    os.environ.update(brief_waits(os.environ))
    from capvec.publish.bake.command import bake, report  # noqa: PLC0415 (torch: only once the order is checked)

    print(report(bake(order, say), order.out))
    return 0
