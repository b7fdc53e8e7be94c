"""`capvec export`: a finished sweep as a folder to publish."""

from __future__ import annotations

import argparse
from pathlib import Path

from capvec.commands.shared import say

EPILOG = "example: capvec export reports/latest --out my-vector --license apache-2.0"


def run(options: argparse.Namespace) -> int:
    """Write the folder."""
    from capvec.publish.export import export  # noqa: PLC0415

    export(Path(options.RUN), Path(options.out), license_id=options.license, say=say)
    return 0
