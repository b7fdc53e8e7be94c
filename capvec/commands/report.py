"""`capvec report`: the reports of runs, made again or merged."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any


def add(commands: Any) -> None:
    """Describe the command."""
    parser = commands.add_parser(
        "report",
        help="write a run's reports again from its trials, or merge several runs",
        epilog="The exit code is 0 once the reports are written, also where a gate is not met: a gate decides the exit "
        "code of the run that it was asked of. Gates are judged again, and the output and RESULTS.md say how.",
    )
    parser.add_argument("folders", type=Path, nargs="+", metavar="RUN", help="run folders, such as reports/latest")
    parser.add_argument("--out", type=Path, help="a new folder for the merged run (needed for several runs)")
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Write them, and print the table as after a run."""
    from capvec.studies.regenerate import report  # noqa: PLC0415 (scipy and pandas)

    print("\n".join(report(options.folders, options.out)))
    return 0
