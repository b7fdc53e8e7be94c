"""`capvec judge`: a verdict on results that were made elsewhere."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from capvec.arguments import split
from capvec.errors import UsageError
from capvec.programs import no_search_for_garbage

if TYPE_CHECKING:
    from capvec.harnesses import Reading, Source

EPILOG = """\
RESULTS is a file with a table of trials (.csv, .tsv, JSON lines, Parquet), or a
file or folder of a job of Harbor, logs of Inspect, samples of
lm-evaluation-harness or reports of SWE-bench. NAME=PATH names the config of a
source that has one. NAME=S/N are counts alone, which give no verdict. Without
--out nothing is written.
exit code: 0 when every trial is valid and every gate is met, 1 when not

example: capvec judge baseline=jobs/plain steered=jobs/steered --out reports/a
"""
_OF_TRIALS = (
    *("gate", "columns", "reward", "solved_at", "controls", "seeds", "errors", "effect", "receipts", "preregistration"),
)
"""Options that say something of trials."""


def run(options: argparse.Namespace) -> int:
    """Print the table and the verdict, and write the report where one is asked for."""
    from capvec.results.counts import is_counts  # noqa: PLC0415
    from capvec.results.gates import split_gate  # noqa: PLC0415

    if options.gate is not None:
        split_gate(options.gate)  # a bad one is refused before anything is read
    if any(map(is_counts, options.RESULTS)):
        return _judge_counts(options)
    with no_search_for_garbage():
        return _judge_files(options)


def _judge_files(options: argparse.Namespace) -> int:
    from capvec.harnesses import Reading, check_sources  # noqa: PLC0415 (pandas and SciPy)
    from capvec.report import judged_lines, sweep_lines  # noqa: PLC0415
    from capvec.report.document import sweep_report  # noqa: PLC0415
    from capvec.results.judge_sources import judge_sources  # noqa: PLC0415
    from capvec.results.judged_folder import write_judged  # noqa: PLC0415
    from capvec.results.lock import locked_new  # noqa: PLC0415
    from capvec.results.origin import Asked, Judged  # noqa: PLC0415
    from capvec.results.preregistration import Preregistration  # noqa: PLC0415
    from capvec.results.served import read_served  # noqa: PLC0415
    from capvec.storage import whole_or_empty  # noqa: PLC0415
    from capvec.studies.reporting import write_all  # noqa: PLC0415

    reading = Reading(options.columns or {}, options.reward, options.solved_at)
    controls = None if options.controls is None else tuple(split("--controls", options.controls))
    receipts = None if options.receipts is None else Path(options.receipts)
    named, folder = options.preregistration, Path(options.out or "results")
    sources = tuple(_source(text, reading) for text in options.RESULTS)
    check_sources([source for _, source in sources], reading)
    judged = Judged(
        run=folder.resolve().name,
        asked=Asked(
            options.baseline, controls, options.seeds, options.errors, options.effect, options.gate, reading=reading
        ),
        served=None if receipts is None else read_served(receipts),
        registered=None if named is None else Preregistration.read(Path(named)),
        sources=sources,
    )
    results = judge_sources(judged, folder)
    if options.out is None:
        print("\n".join((*sweep_lines(sweep_report(results)), *judged_lines(results))))
    else:
        with locked_new(folder, "--out"), whole_or_empty(folder):
            write_judged(folder, judged, options.command_line, receipts)
            lines = write_all(results)
        print("\n".join(lines))
    return 0 if results.good else 1


def _source(text: str, reading: Reading) -> tuple[str | None, Source]:
    """The user's name for the config of a source, and the source. A path may hold `=`."""
    from capvec.harnesses import read_source  # noqa: PLC0415

    name, sign, path = text.partition("=")
    if sign and name and path and not Path(text).exists():
        return name, read_source(Path(path), reading)
    return None, read_source(Path(text), reading)


def _judge_counts(options: argparse.Namespace) -> int:
    from capvec.report import sweep_lines  # noqa: PLC0415
    from capvec.results.counts import parse_counts  # noqa: PLC0415
    from capvec.results.judged_folder import write_judged  # noqa: PLC0415
    from capvec.results.lock import locked_new  # noqa: PLC0415
    from capvec.results.origin import Asked, Judged  # noqa: PLC0415
    from capvec.storage import whole_or_empty  # noqa: PLC0415
    from capvec.studies.judged import report_of_counts, write_counts  # noqa: PLC0415

    for name in _OF_TRIALS:
        if name in options.typed:
            raise UsageError(
                f"--{name.replace('_', '-')}: counts alone have no verdict that it could change; leave it out"
            )
    folder = Path(options.out or "results")
    asked = Asked(options.baseline)
    judged = Judged(run=folder.resolve().name, asked=asked, counts=parse_counts(options.RESULTS))
    report = report_of_counts(judged)
    if options.out is None:
        print("\n".join(sweep_lines(report)))
    else:
        with locked_new(folder, "--out"), whole_or_empty(folder):
            write_judged(folder, judged, options.command_line, None)
            lines = write_counts(report, folder)
        print("\n".join(lines))
    return 0
