"""What the terminal shows when the last trial has ended."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.records import Outcome
from capvec.report.controls import twin_lines
from capvec.report.interim import look_lines
from capvec.report.table import table_lines
from capvec.results.results import Results
from capvec.text import printable

_ERRORS_SHOWN = 5


def sweep_lines(results: Results) -> tuple[str, ...]:
    """What a sweep shows of its numbers: the table, the interim analyses, and the ranks among matched controls."""
    return (
        *table_lines(results.plan, results.summary),
        *look_lines(results.summary),
        *twin_lines(results.controls),
    )


def closing_lines(results: Results, lines: Sequence[str]) -> tuple[str, ...]:
    """Everything the terminal shows after the last trial: the study's own lines, then what every study ends with."""
    completeness, folder = results.completeness, results.plan.folder
    counts = [str(completeness)] if completeness.missing or completeness.interrupted else []
    so_far = " so far" if completeness.missing else ""
    judged = [
        f"gate {'met' if gate.met else 'NOT MET'}{so_far}: {gate.condition} ({gate.reason})" for gate in results.gates
    ]
    written = f"report: {folder / 'RESULTS.md'} and {folder / 'report.html'}"
    return (*lines, *_errors(results.outcomes), *counts, *judged, written)


def _errors(outcomes: Sequence[Outcome]) -> Iterator[str]:
    """Each trial that ended in an error, with the first line of the reason: pytest's own summary cuts it short."""
    failed = [outcome for outcome in outcomes if outcome.outcome == "error"]
    for outcome in failed[:_ERRORS_SHOWN]:
        first = next(iter(printable(outcome.error).strip().splitlines()), "")
        yield f"error: {outcome.trial}: {first or 'no reason was given'}"
    if len(failed) > _ERRORS_SHOWN:
        yield f"and {len(failed) - _ERRORS_SHOWN} errors more; RESULTS.md has them all"
