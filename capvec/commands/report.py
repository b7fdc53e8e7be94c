"""`capvec report`: the reports of runs, regenerated or merged."""

from __future__ import annotations

import argparse
from pathlib import Path

from capvec.programs import no_search_for_garbage

EPILOG = """\
Gates are judged again and shown.
exit code: 0 once the reports are written, also where a gate is not met; a gate
decides the exit code of the run that it was given to. The gates of shards
(--shard of a sweep) are judged here: 1 where one is not met, or a trial is
missing or failed

example: capvec report reports/a reports/b --out reports/all
"""


def run(options: argparse.Namespace) -> int:
    """Write the reports, and print the table as after a run."""
    from capvec.studies.regenerate import report  # noqa: PLC0415 (scipy and pandas)

    out = None if options.out is None else Path(options.out)
    with no_search_for_garbage():
        reported = report([Path(folder) for folder in options.RUN], out)
    print("\n".join(reported.lines))
    return 0 if reported.good else 1
