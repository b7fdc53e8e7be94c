"""The report of a sweep: its sections in order. To add a section, write a builder and name it here."""

from __future__ import annotations

from capvec.report.battery import battery_section
from capvec.report.caveats import caveats_section
from capvec.report.completion import errors_section, gates_section, retried_section
from capvec.report.config_table import dose_response_section, results_section
from capvec.report.contrast import contrast_section
from capvec.report.controls import controls_section
from capvec.report.direction import direction_section
from capvec.report.error_difference import error_difference_section, error_difference_status
from capvec.report.interim import interim_section
from capvec.report.interpretation import interpretation_section
from capvec.report.method import method_section
from capvec.report.origin import origin_section, proof_status, served_section
from capvec.report.pass_at_k import pass_at_k_section
from capvec.report.preregistration import preregistration_section, preregistration_status
from capvec.report.receipts import receipts_section
from capvec.report.rewards import rewards_section
from capvec.report.robustness import robustness_section
from capvec.report.section import Report
from capvec.report.task_families import task_families_section
from capvec.report.trial_matrix import trial_matrix_section
from capvec.report.verdict import answer, verdict_section, warnings
from capvec.results.results import Results


def sweep_report(results: Results) -> Report:
    """Everything that `RESULTS.md` and `report.html` say, and what the terminal shows of it."""
    plan, summary, outcomes = results.plan, results.summary, results.outcomes
    status = [answer(results), *proof_status(results), f"{results.completeness}."]
    model = (f"Model {plan.settings.model}",) if results.origin is None else ()
    if results.completeness.interrupted:
        status.reverse()
    sections = (
        preregistration_section(results),
        error_difference_section(results),
        verdict_section(results),
        interpretation_section(results),
        battery_section(results),
        method_section(results) if results.origin is None else origin_section(results, results.origin),
        results_section(results),
        pass_at_k_section(results),
        rewards_section(results),
        dose_response_section(results),
        interim_section(summary),
        robustness_section(summary),
        controls_section(results),
        task_families_section(results),
        trial_matrix_section(results),
        direction_section(results) if results.origin is None else None,
        contrast_section(results),
        caveats_section(results),
        receipts_section(outcomes) if results.origin is None else served_section(results),
        gates_section(results),
        errors_section(outcomes, resumable=results.origin is None),
        retried_section(outcomes),
    )
    return Report(
        title=plan.title,
        status=" ".join(filter(None, (*preregistration_status(results), error_difference_status(results), *status))),
        sections=tuple(section for section in sections if section is not None),
        warnings=warnings(plan, summary),
        source="trials.jsonl" if results.origin is None else "results that were made elsewhere",
        about=", ".join(
            (*model, f"{len(plan.tasks)} tasks", f"{len(plan.configs)} configs", f"{len(outcomes)} trials")
        ),
    )
