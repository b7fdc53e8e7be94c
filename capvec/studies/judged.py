"""Reports of results that were made elsewhere, as they are judged and again from the folder that keeps them."""

from __future__ import annotations

from pathlib import Path

from capvec.report import sweep_lines
from capvec.report.counts import counts_report, write_counts_report
from capvec.report.section import Report
from capvec.results.judge_sources import judge_sources
from capvec.results.judged_folder import read_judged
from capvec.results.judged_trials import baseline_among
from capvec.results.origin import Judged
from capvec.stats.counts import compare_counts
from capvec.studies.reporting import write_all


def report_of_counts(judged: Judged) -> Report:
    """The report of counts alone.

    Raises:
        UsageError: no baseline can be told.
    """
    counts = judged.counts or {}
    baseline = baseline_among(list(counts), judged.asked.baseline)
    return counts_report(compare_counts(counts, baseline), baseline, f"Counts {judged.run}")


def write_counts(report: Report, folder: Path) -> tuple[str, ...]:
    """Write the report of counts alone.

    Returns:
        What the terminal shows.
    """
    write_counts_report(report, folder)
    return (*sweep_lines(report), f"report: {folder / 'RESULTS.md'} and {folder / 'report.html'}")


def report_again(folder: Path) -> tuple[str, ...]:
    """Make the report of a folder again, byte for byte the same.

    Returns:
        What the terminal shows.

    Raises:
        UsageError: the folder is damaged.
    """
    judged = read_judged(folder)
    if judged.counts is not None:
        return write_counts(report_of_counts(judged), folder)
    return write_all(judge_sources(judged, folder))
