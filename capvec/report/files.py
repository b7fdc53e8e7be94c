"""The reports of a run folder. To add a column of `master_summary.csv`, name it in `MASTER_COLUMNS`."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import lru_cache
from pathlib import Path

from capvec.report.caveats import caveats
from capvec.report.document import sweep_report
from capvec.report.html.environment import svg
from capvec.report.html.page import page
from capvec.report.html.viewer import Embedded, embed
from capvec.report.markdown import inline, markdown
from capvec.report.section import Report
from capvec.report.verdict import answer, verdict, warnings
from capvec.results.battery import CostRow
from capvec.results.results import Results
from capvec.results.table import NAMED_REWARD, named_rewards, trial_table
from capvec.storage import make_folder, write_text
from capvec.text import not_a_formula, printable

MASTER_COLUMNS = (
    "run,task,config,layer,alpha,attempt,seed,outcome,reward,steps,parse_fail,no_cmd,end_reason,"
    "prompt_tokens,completion_tokens,model_s,sandbox_s,wall_s,error,family,split"
).split(",")


def write_reports(results: Results) -> tuple[Report, Embedded]:
    """Write `master_summary.csv`, `summary.json`, `RESULTS.md`, `report.html` and `plots/` into the run folder.

    Returns:
        The report, for the terminal, and the trajectories as far as they were found.
    """
    folder = results.plan.folder
    write_text(folder / "summary.json", json.dumps(_summary(results), indent=2, allow_nan=False) + "\n")
    trials = embed(folder / "trajectories", results.outcomes)
    return write_documents(results, trials, folder, folder / "master_summary.csv"), trials


def write_documents(results: Results, trials: Embedded, folder: Path, table: Path) -> Report:
    """Write what a person reads: `RESULTS.md`, `report.html` and `plots/`, and the table of trials.

    Args:
        results: of the run.
        trials: its trajectories, for the page.
        folder: gets the documents; must exist, as must the table's folder.
        table: the CSV file of the trials.

    Returns:
        The report, for the terminal.
    """
    plan, report = results.plan, sweep_report(results)
    tries = ("tries",) if any(outcome.lost for outcome in results.outcomes) else ()
    known = (column for column in MASTER_COLUMNS if column not in results.summary.unrecorded)
    columns = [*known, *tries, *(f"{NAMED_REWARD}{name}" for name in named_rewards(results.outcomes))]
    cells = trial_table(plan, results.outcomes, columns)
    texts = cells.select_dtypes(exclude="number").map(_cell)
    write_text(table, cells.assign(**texts)[columns].rename(columns=_cell).to_csv(index=False))
    write_text(folder / "RESULTS.md", markdown(report))
    tasks, configs = [task.name for task in plan.tasks], [config.name for config in plan.configs]
    write_text(folder / "report.html", page(report, trials, tasks, configs))
    plots = folder / "plots"
    make_folder(plots)
    for chart in report.charts:
        write_text(plots / f"{chart.name}.svg", svg(chart))
    return report


def _cell(value: object) -> object:
    return _text(value) if isinstance(value, str) else value


@lru_cache(1 << 12)
def _text(value: str) -> str:
    return not_a_formula(printable(value))


def _summary(results: Results) -> dict[str, object]:
    plan, summary, completeness = results.plan, results.summary, results.completeness
    data: dict[str, object] = {
        "run": plan.run,
        "verdict": answer(results) if plan.shard else verdict(summary),
        "warnings": list(warnings(plan, summary)),
        **summary.to_json(),
        "battery": [CostRow.of(cost).to_json() for cost in results.battery.costs]
        if results.battery is not None
        else [],
        "matched_controls": [asdict(comparison) for comparison in results.controls],
        "caveats": [inline(caveat) for caveat in caveats(results)],
        "gates": [vars(gate) for gate in results.gates],
        "expected_trials": completeness.expected,
        "missing_trials": [str(trial) for trial in completeness.missing],
        "interrupted": completeness.interrupted,
    }
    if results.comparison is not None:
        data["preregistration"] = results.comparison.to_json()
    if completeness.stopped:
        data["stopped"] = completeness.stopped
    if plan.sequential:
        data["skipped_trials"] = completeness.skipped
    return data
