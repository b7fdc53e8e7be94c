"""`capvec export`: a finished sweep as a folder to publish."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from capvec.commands.shared import say


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser("export", help="a finished sweep as a folder to publish, with a model card")
    parser.add_argument("folder", type=Path, metavar="RUN", help="its folder, such as reports/latest")
    parser.add_argument("--out", type=Path, required=True, help="a new folder")
    parser.add_argument("--license", default="unknown", help="of the vectors, as the hub names it (default: unknown)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write the folder."""
    from capvec.publish.export import export  # noqa: PLC0415

    export(options.folder, options.out, license_id=options.license, say=say)
    return 0
