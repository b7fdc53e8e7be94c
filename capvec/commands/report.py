"""`capvec report`: the reports of runs, regenerated or merged."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
Gates are judged again and shown, but do not change the exit code: they decide
that of the run they were given to.

example: capvec report reports/a reports/b --out reports/all
"""


def run(options: argparse.Namespace) -> int:
    """Write the reports, and print the table as after a run."""
    from capvec.studies.regenerate import report  # noqa: PLC0415 (scipy and pandas)

    out = None if options.out is None else Path(options.out)
    print("\n".join(report([Path(folder) for folder in options.RUN], out)))
    return 0
