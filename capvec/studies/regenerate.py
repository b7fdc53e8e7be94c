"""`capvec report`: make the reports of a run again from its folder."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.reading import shown
from capvec.report.baseline import BASELINE, write_baseline
from capvec.results.battery import battery_of
from capvec.results.departures import compared
from capvec.results.direction import DirectionSummary
from capvec.results.gates import GateResult, check_gate, split_gate
from capvec.results.interim import not_needed
from capvec.results.judged_folder import is_judged
from capvec.results.ledger import Completeness, reconcile
from capvec.results.lock import Writer, writer_of
from capvec.results.merge import merged
from capvec.results.results import Judgement, Results, summarise_run
from capvec.results.run_folder import RunFolder, read_run_folder
from capvec.results.shards import planned_trials
from capvec.results.zero_control import check_zero, judge_zero
from capvec.stats.summary import Summary
from capvec.studies.calibration.judge import judge_again
from capvec.studies.calibration.report import CALIBRATION
from capvec.studies.judged import report_again
from capvec.studies.reporting import write_all
from capvec.text import counted


@dataclass(frozen=True)
class Reported:
    """Reports that were written."""

    lines: tuple[str, ...]
    """What the terminal shows, as after the run itself."""
    good: bool = True
    """False for merged shards with missing or failed trials, or a gate that is not met. Any other run was judged when
    it ended, by its own exit code."""


def report(runs: Sequence[Path], out: Path | None) -> Reported:
    """Make the reports of one run again, or those of several runs together.

    Args:
        runs: run folders.
        out: a new folder for the merged run; None to make the reports of one run again in its own folder.

    Raises:
        UsageError: no run there, several without `out`, or runs that do not belong together.
    """
    if out is None and len(runs) == 1:
        return regenerate(runs[0])
    with merged(runs, out) as folder:
        return _regenerate(folder, None)


def regenerate(folder: Path) -> Reported:
    """Make the reports of a run, or of results that were made elsewhere, again, byte for byte the same.

    Raises:
        UsageError: no run there, or none with a trial on record.
    """
    if is_judged(folder):
        return Reported(report_again(folder))
    return _regenerate(folder, writer_of(folder))  # before the trials are read, which are final if nobody writes


def _regenerate(folder: Path, writer: Writer | str | None) -> Reported:
    run = read_run_folder(folder)
    if run.provenance["direction"] is None:  # nothing is steered: a collection, which has one report
        write_baseline(run.plan, run.outcomes)
        return Reported((f"report: {folder / BASELINE}", *_still_runs(run, writer)))
    results, notes = results_of_run(run)
    lines = write_all(results, (*notes, *_lost(run, results.direction), *_still_runs(run, writer)))
    merged_shards = run.plan.dealing is not None and run.plan.shard is None
    return Reported(lines, results.good or not merged_shards)


def results_of_run(run: RunFolder) -> tuple[Results, tuple[str, ...]]:
    """The results of a run, from its folder, and lines on what could not be judged again.

    Raises:
        UsageError: a file of the folder is damaged, or not what capvec wrote.
    """
    try:
        return _results_of(run)
    except (LookupError, TypeError, ValueError, AttributeError, ArithmeticError) as error:
        raise UsageError(
            f"{shown(run.folder)}: provenance.json or summary.json is not what capvec writes ({error!r:.100})"
        ) from error


def _results_of(run: RunFolder) -> tuple[Results, tuple[str, ...]]:
    plan, outcomes = run.plan, run.outcomes
    summary, earlier = summarise_run(plan, outcomes), run.earlier_summary()
    judgement, notes = _judge(run, summary, earlier)
    results = Results(
        plan=plan,
        outcomes=outcomes,
        summary=summary,
        direction=DirectionSummary.read(run.folder, run.provenance),
        judgement=judgement,
        gates=(*judgement.gates, *check_gate(None if plan.shard else _gate_of(run), summary, len(plan.tasks))),
        completeness=_completeness(run, summary, earlier),
        battery=battery_of(plan),
        comparison=compared(plan, run.provenance, outcomes, summary.sequential),
    )
    return results, notes


def _gate_of(run: RunFolder) -> str | None:
    """What `--gate` asked for."""
    expression: str | None = run.provenance["options"].get("gate")
    return expression


def _still_runs(run: RunFolder, writer: Writer | str | None) -> Iterator[str]:
    """That a report is of a part, since the run goes on."""
    if writer is not None:
        done = f"{len(run.outcomes)} of {counted(len(run.plan.trials), 'trial')}"
        yield f"{run.folder} is still being written by {writer}; this report is of the first {done}"


def _lost(run: RunFolder, direction: DirectionSummary) -> Iterator[str]:
    """What the reports lack because files of the run were not kept."""
    if run.provenance["direction"].get("ranking") and direction.ranking is None:
        yield f"{run.folder / 'vectors' / 'ranking.csv'} is missing: the reports do not say what the direction is worth"


def _judge(run: RunFolder, summary: Summary, earlier: Mapping[str, Any] | None) -> tuple[Judgement, tuple[str, ...]]:
    """The study's own judgement, and lines about it for the terminal.

    A sweep and a calibration are judged again. Other gates, and those that need missing trajectories, are taken from
    the last report if its counts are the same.
    """
    same = earlier is not None and _counts(earlier["configs"]) == _counts(summary.to_json()["configs"])
    notes: tuple[str, ...] = ()
    if run.plan.study == "sweep":
        if not same:
            return Judgement(judge_zero(run.plan, run.outcomes)), ()
        with suppress(FileNotFoundError):
            return Judgement(check_zero(run.plan, run.outcomes)), ()
    if run.plan.study == "calibration":
        try:
            return judge_again(run, same_counts=same), ()
        except UsageError as error:
            notes = (f"{CALIBRATION} was not made again: {error}",)
    return Judgement(_kept(run, earlier) if same and earlier is not None else ()), notes


def _kept(run: RunFolder, earlier: Mapping[str, Any]) -> tuple[GateResult, ...]:
    """The study's own gates in the last report, without those of `--gate`."""
    conditions = split_gate(expression) if (expression := _gate_of(run)) else ()
    return tuple(GateResult(**gate) for gate in earlier["gates"] if gate["condition"] not in conditions)


def _completeness(run: RunFolder, summary: Summary, earlier: Mapping[str, Any] | None) -> Completeness:
    """Compare with what pytest collected, if `summary.json` says so, and otherwise with the whole plan.

    Merged shards are compared with the whole plan, that of missing shards included.
    """
    if run.plan.dealing is not None and run.plan.merged:
        return reconcile(planned_trials(run.plan), run.outcomes, [outcome.id for outcome in run.outcomes])
    if earlier is None:
        recorded = [outcome.id for outcome in run.outcomes]
        skipped = not_needed(run.plan, summary.sequential) if summary.sequential is not None else ()
        return reconcile([trial.id for trial in run.plan.trials], run.outcomes, recorded, not_needed=skipped)
    valid = {outcome.id for outcome in run.outcomes if outcome.outcome != "error"}
    absent = [trial.id for text in earlier["missing_trials"] if (trial := run.plan.trial(text)) is not None]
    missing = tuple(trial for trial in absent if trial not in valid)
    expected, left_out = int(earlier["expected_trials"]), int(earlier.get("skipped_trials", 0))
    interrupted = earlier.get("interrupted", False)
    stopped = earlier.get("stopped", "") if missing else ""
    return Completeness(expected, expected - len(missing) - left_out, missing, interrupted, left_out, stopped)


def _counts(rows: Sequence[Mapping[str, Any]]) -> list[tuple[Any, ...]]:
    return [tuple(row[name] for name in ("config", "n", "solved", "errors")) for row in rows]
