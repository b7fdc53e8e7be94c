"""`capvec report`: the reports of a run made again from `trials.jsonl`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from capvec.records import Outcome
from capvec.report.controls import twin_lines
from capvec.report.direction import ReportedDirection
from capvec.report.files import summary_of, write_reports
from capvec.report.merge import merge
from capvec.report.recorded import RecordedRun, read_recorded
from capvec.report.table import closing_lines, table_lines
from capvec.stats.summary import Summary
from capvec.stats.twins import compare_with_twins
from capvec.sweep.gate import GateResult, check_gate, split_gate
from capvec.sweep.ledger import Reconciliation, reconcile
from capvec.sweep.plan import Plan
from capvec.sweep.replies import check_zero


def report(runs: Sequence[Path], out: Path | None) -> tuple[str, ...]:
    """Write the reports of one run again, or those of several together.

    Args:
        runs: run folders.
        out: a new folder for the merged run; None for one run, whose reports are made again in its own folder.

    Returns:
        What the terminal shows, as after the run itself.

    Raises:
        UsageError: no run there, several without `out`, or runs that do not belong together.
    """
    return rebuild(merge(runs, out) if out is not None or len(runs) > 1 else runs[0])


def rebuild(folder: Path) -> tuple[str, ...]:
    """Write the reports of a run again: the same files from the same trials.

    Raises:
        UsageError: no run there, or none with a trial on record.
    """
    run = read_recorded(folder)
    plan, outcomes = run.plan, run.outcomes
    direction = ReportedDirection.read(folder, run.provenance)
    summary, earlier = summary_of(plan, outcomes), run.earlier_summary()
    gates, recorded = _gates(run, summary, earlier), _reconciliation(run, earlier)
    write_reports(plan, outcomes, summary, direction, gates, recorded)
    lines = (*table_lines(plan, summary), *twin_lines(compare_with_twins(outcomes, plan.configs)))
    return closing_lines(plan, lines, gates, recorded, outcomes)


def _reconciliation(run: RecordedRun, earlier: Mapping[str, Any] | None) -> Reconciliation:
    """Against what pytest collected, where the run got as far as to write that down; else against the whole plan."""
    if earlier is None:
        recorded = [outcome.trial for outcome in run.outcomes]
        return reconcile([trial.id for trial in run.plan.trials], run.outcomes, recorded)
    valid = {outcome.trial for outcome in run.outcomes if outcome.outcome != "error"}
    missing = tuple(trial for trial in earlier["missing_trials"] if trial not in valid)
    expected = int(earlier["expected_trials"])
    return Reconciliation(expected, expected - len(missing), missing, earlier.get("interrupted", False))


def _gates(run: RecordedRun, summary: Summary, earlier: Mapping[str, Any] | None) -> tuple[GateResult, ...]:
    """The study's own verdicts, then what `--gate` asked for.

    Only a sweep's own can be judged again, and only from its trajectories; others stand as long as the counts do.
    """
    expression = run.provenance["options"].get("gate")
    with suppress(FileNotFoundError):  # a run whose trajectories were not kept
        if run.plan.study == "sweep":
            return gates_of(run.plan, run.outcomes, summary, expression)
    own: tuple[GateResult, ...] = ()
    if earlier is not None and _counts(earlier["configs"]) == _counts(summary.to_json()["configs"]):
        conditions = split_gate(expression) if expression else ()
        own = tuple(GateResult(**gate) for gate in earlier["gates"] if gate["condition"] not in conditions)
    return (*own, *_asked(expression, summary))


def gates_of(
    plan: Plan, outcomes: Sequence[Outcome], summary: Summary, expression: str | None
) -> tuple[GateResult, ...]:
    """A sweep's gates: its own verdict on α = 0, and what `--gate` asked for.

    Raises:
        FileNotFoundError: a trajectory that the verdict needs is gone.
    """
    return (*check_zero(plan, outcomes), *_asked(expression, summary))


def _asked(expression: str | None, summary: Summary) -> tuple[GateResult, ...]:
    return check_gate(expression, summary) if expression else ()


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("config", "n", "solved", "errors")) for row in rows]
