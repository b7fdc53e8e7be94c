"""The files of a run folder that are written when the session ends."""

from __future__ import annotations

import json
from dataclasses import asdict

from capvec.report.html import write_html
from capvec.report.html.data import RunReport
from capvec.report.results_md import caveats, results_md
from capvec.report.table import verdict, warnings
from capvec.results.results import Results
from capvec.results.table import trial_table

MASTER_COLUMNS = (
    "run,task,config,layer,alpha,attempt,seed,outcome,reward,steps,parse_fail,no_cmd,end_reason,"
    "prompt_tokens,completion_tokens,model_s,sandbox_s,wall_s,error,family,split"
).split(",")


def write_reports(results: Results) -> None:
    """Write `master_summary.csv`, `summary.json`, `RESULTS.md`, `report.html` and `plots/` into the run folder."""
    plan, outcomes, summary = results.plan, results.outcomes, results.summary
    frame = trial_table(plan, outcomes)
    frame.to_csv(plan.folder / "master_summary.csv", columns=MASTER_COLUMNS, index=False)
    data = {
        "run": plan.run,
        "verdict": verdict(summary),
        "warnings": list(warnings(plan, summary)),
        **summary.to_json(),
        "matched_controls": [asdict(comparison) for comparison in results.controls],
        "caveats": list(caveats(plan, summary, results.direction)),
        "gates": [vars(gate) for gate in results.gates],
        "expected_trials": results.completeness.expected,
        "missing_trials": [str(trial) for trial in results.completeness.missing],
        "interrupted": results.completeness.interrupted,
    }
    if plan.sequential:
        data["skipped_trials"] = results.completeness.skipped
    (plan.folder / "summary.json").write_text(json.dumps(data, indent=2, allow_nan=False) + "\n", encoding="utf-8")
    text = results_md(results)
    (plan.folder / "RESULTS.md").write_text(text, encoding="utf-8")
    write_html(RunReport(plan, outcomes, data, text))
