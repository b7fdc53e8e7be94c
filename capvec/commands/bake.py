"""`capvec bake`: a model folder that does without a hook what a steer does with one."""

from __future__ import annotations

import argparse
from typing import Any

from capvec.commands.shared import MODEL_HELP, say


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("bake", help="write a model folder that does without a hook what a steer does")
    parser.add_argument("--model", default="pocket", help=f"{MODEL_HELP} (default: pocket)")
    parser.add_argument("--direction", required=True, help="a direction, as a sweep writes it or another tool does")
    parser.add_argument("--layer", required=True, help="block, counted from 0; several as in 22+26")
    parser.add_argument(
        "--op",
        default="add",
        help="`add`, or `ablate`: at every write into the residual (default: add). There is no `set`: what brings a "
        "component to a value depends on the component that arrives, which is known only at run time, so no weight or "
        "bias holds it; nearest to it is baking `ablate`, then `add` into the folder that comes out",
    )
    parser.add_argument(
        "--alpha", help="strength of what is added: required for `add`; not for `ablate`, which takes all of it away"
    )
    parser.add_argument("--alpha-unit", default="stored", help="`stored`, `norm` or `ambient` (default: stored)")
    parser.add_argument("--out", required=True, help="a new folder")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the folder, and prove that it does what the hook does."""
    from capvec.publish.bake.order import parse_order  # noqa: PLC0415

    order = parse_order(vars(options))
    from capvec.publish.bake.command import bake, report  # noqa: PLC0415 (torch: only once the order makes sense)

    print(report(bake(order, say), order.out))
    return 0
