"""The files of a run folder that are written when the session ends."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict

import pandas as pd

from capvec.plan.plan import Plan
from capvec.records import Outcome
from capvec.report.html import write_html
from capvec.report.html.data import RunReport
from capvec.report.results_md import caveats, results_md
from capvec.report.table import verdict, warnings
from capvec.report.task_families import family_of, split_of
from capvec.results.direction import DirectionSummary
from capvec.results.gates import GateResult
from capvec.results.interim import interim_analyses, margin_of
from capvec.results.ledger import Reconciliation
from capvec.stats.matched_controls import compare_with_matched_controls
from capvec.stats.summary import Summary, summarise

MASTER_COLUMNS = (
    "run,task,config,layer,alpha,attempt,seed,outcome,reward,steps,parse_fail,no_cmd,end_reason,"
    "prompt_tokens,completion_tokens,model_s,sandbox_s,wall_s,error,family,split"
).split(",")


def summary_of(plan: Plan, outcomes: Sequence[Outcome]) -> Summary:
    """The numbers of a run: of every config of its plan; the steered ones are the family, controls are not in it."""
    steered = [config.name for config in plan.configs if config.kind == "steered"]
    looks = interim_analyses(plan, outcomes) if plan.sequential else None
    names = [config.name for config in plan.configs]
    return summarise(outcomes, names, family=steered, margin=margin_of(plan), sequential=looks)


def write_reports(
    plan: Plan,
    outcomes: Sequence[Outcome],
    summary: Summary,
    direction: DirectionSummary,
    gates: Sequence[GateResult],
    reconciliation: Reconciliation,
) -> None:
    """Write `master_summary.csv`, `summary.json`, `RESULTS.md`, `report.html` and `plots/` into the run folder."""
    frame = pd.DataFrame([outcome.to_json() for outcome in outcomes], columns=list(Outcome.__dataclass_fields__))
    # Text: a baseline has none, and `22` beside `20+22` must not become a number.
    frame["layer"] = [None if outcome.layer is None else str(outcome.layer) for outcome in outcomes]
    tasks = {task.name: task for task in plan.tasks}
    frame["family"] = [family_of(tasks[name]) for name in frame["task"]]
    frame["split"] = [split_of(tasks[name]) for name in frame["task"]]
    frame.to_csv(plan.folder / "master_summary.csv", columns=MASTER_COLUMNS, index=False)
    twins = compare_with_matched_controls(summary.analysed(outcomes), plan.configs)
    data = {
        "run": plan.run,
        "verdict": verdict(summary),
        "warnings": list(warnings(plan, summary)),
        **summary.to_json(),
        "twins": [asdict(comparison) for comparison in twins],
        "caveats": list(caveats(plan, summary, direction)),
        "gates": [vars(gate) for gate in gates],
        "expected_trials": reconciliation.expected,
        "missing_trials": list(reconciliation.missing),
        "interrupted": reconciliation.interrupted,
    }
    if plan.sequential:
        data["spared_trials"] = reconciliation.spared
    (plan.folder / "summary.json").write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    text = results_md(plan, outcomes, summary, twins, direction, gates, reconciliation)
    (plan.folder / "RESULTS.md").write_text(text, encoding="utf-8")
    write_html(RunReport(plan, outcomes, data, text))
