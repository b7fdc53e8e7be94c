"""`capvec report`: the reports of a run made again from `trials.jsonl`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.report.baseline import BASELINE, write_baseline
from capvec.report.controls import twin_lines
from capvec.report.files import summary_of, write_reports
from capvec.report.interim import look_lines
from capvec.report.table import closing_lines, table_lines
from capvec.results.direction import DirectionSummary
from capvec.results.gates import GateResult, check_gate, split_gate
from capvec.results.interim import not_needed
from capvec.results.ledger import Reconciliation, reconcile
from capvec.results.merge import merge
from capvec.results.run_folder import RunFolder, read_run_folder
from capvec.results.zero_control import check_zero
from capvec.run.study import Judgement
from capvec.stats.matched_controls import compare_with_matched_controls
from capvec.stats.summary import Summary
from capvec.studies.calibration.judge import conclude_again
from capvec.studies.calibration.report import CALIBRATION


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
    return regenerate(merge(runs, out) if out is not None or len(runs) > 1 else runs[0])


def regenerate(folder: Path) -> tuple[str, ...]:
    """Write the reports of a run again: the same files from the same trials.

    Raises:
        UsageError: no run there, or none with a trial on record.
    """
    run = read_run_folder(folder)
    plan, outcomes = run.plan, run.outcomes
    if run.provenance["direction"] is None:  # nothing is steered: a collection, which has one report
        write_baseline(plan, outcomes)
        return (f"report: {folder / BASELINE}",)
    direction = DirectionSummary.read(folder, run.provenance)
    summary, earlier = summary_of(plan, outcomes), run.earlier_summary()
    conclusion, recorded = _conclude(run, summary, earlier), _reconciliation(run, summary, earlier)
    gates = (*conclusion.gates, *_asked(run, summary))
    write_reports(plan, outcomes, summary, direction, gates, recorded)
    return closing_lines(plan, (*conclusion.lines, *_lost(run, direction)), gates, recorded, outcomes)


def _lost(run: RunFolder, direction: DirectionSummary) -> Iterator[str]:
    """What the run's first reports had, and these cannot: files of a run are often kept in part."""
    if run.provenance["direction"].get("ranking") and direction.ranking is None:
        yield f"{run.folder / 'vectors' / 'ranking.csv'} is missing: the reports do not say what the direction is worth"
    if not any((run.folder / "trajectories").glob("*.json")):
        yield f"{run.folder / 'trajectories'} is missing: report.html shows no trajectories"


def _conclude(run: RunFolder, summary: Summary, earlier: Mapping[str, Any] | None) -> Judgement:
    """The study's own words and verdicts.

    A sweep and a calibration are judged again. What is left of that, a choice or what needs trajectories that were not
    kept, stands as it was as long as the counts do.
    """
    same = earlier is not None and _counts(earlier["configs"]) == _counts(summary.to_json()["configs"])
    twins = twin_lines(compare_with_matched_controls(summary.analysed(run.outcomes), run.plan.configs))
    lines = (*table_lines(run.plan, summary), *look_lines(summary), *twins)
    if run.plan.study == "sweep":
        with suppress(FileNotFoundError):
            return Judgement(lines, check_zero(run.plan, run.outcomes))
    if run.plan.study == "calibration":
        try:
            return conclude_again(run, same_counts=same)
        except UsageError as error:
            lines = (*lines, f"{CALIBRATION} was not made again: {error}")
    return Judgement(lines, _kept(run, earlier) if same and earlier is not None else ())


def _kept(run: RunFolder, earlier: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """The study's own verdicts of the last report, without what `--gate` asked for."""
    expression = run.provenance["options"].get("gate")
    conditions = split_gate(expression) if expression else ()
    return tuple(GateResult(**gate) for gate in earlier["gates"] if gate["condition"] not in conditions)


def _reconciliation(run: RunFolder, summary: Summary, earlier: Mapping[str, Any] | None) -> Reconciliation:
    """Against what pytest collected, where the run got as far as to write that down; else against the whole plan."""
    if earlier is None:
        recorded = [outcome.trial for outcome in run.outcomes]
        spared = not_needed(run.plan, summary.sequential) if summary.sequential is not None else ()
        return reconcile([trial.id for trial in run.plan.trials], run.outcomes, recorded, not_needed=spared)
    valid = {outcome.trial for outcome in run.outcomes if outcome.outcome != "error"}
    missing = tuple(trial for trial in earlier["missing_trials"] if trial not in valid)
    expected, left_out = int(earlier["expected_trials"]), int(earlier.get("spared_trials", 0))
    interrupted = earlier.get("interrupted", False)
    return Reconciliation(expected, expected - len(missing) - left_out, missing, interrupted, left_out)


def _asked(run: RunFolder, summary: Summary) -> tuple[GateResult, ...]:
    expression = run.provenance["options"].get("gate")
    return check_gate(expression, summary, len(run.plan.tasks)) if expression else ()


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("config", "n", "solved", "errors")) for row in rows]
