"""`capvec report`: the reports of runs, regenerated or merged."""

from __future__ import annotations

import argparse
from pathlib import Path

EPILOG = """\
Gates are judged again and shown.
exit code: 0 once the reports are written, also where a gate is not met; a gate
decides the exit code of the run that it was given to

example: capvec report reports/a reports/b --out reports/all
"""


def run(options: argparse.Namespace) -> int:
    """Write the reports, and print the table as after a run."""
    from capvec.studies.regenerate import report  # noqa: PLC0415 (scipy and pandas)

    out = None if options.out is None else Path(options.out)
    print("\n".join(report([Path(folder) for folder in options.RUN], out)))
    return 0
