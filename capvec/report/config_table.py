"""The table of configs, in every report. To add a column, add an entry to `COLUMNS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.report.charts.configs import pass_rates
from capvec.report.charts.dose_response import dose_response
from capvec.report.figures import figures
from capvec.report.section import Link, Paragraph, Section, Table, left, right
from capvec.results.results import Results
from capvec.stats.config_summary import ConfigSummary
from capvec.text import interval, number, p_value

COLUMNS: Mapping[str, Callable[[ConfigSummary, Config], str]] = {
    "config": lambda row, _: row.config,
    "solved": lambda row, _: f"{row.solved}/{row.n}",
    "rate": lambda row, _: number(row.pass_rate),
    "95 % Wilson": lambda row, _: interval(row.wilson),
    "errors": lambda row, _: str(row.errors),
    "steps": lambda row, _: number(row.mean_steps, 1),
    "parse_fail": lambda row, _: number(row.parse_fail_per_run, 1),
    "no_cmd": lambda row, _: number(row.no_cmd_per_run, 1),
    "dose": lambda _, config: number(config.dose),
    "Fisher p": lambda row, _: p_value(row.fisher.pvalue if row.fisher else None),
}
"""Title → cell, from the statistics of a config and the config as it was planned."""


def config_table(rows: Iterable[ConfigSummary], plan: Plan) -> Table:
    """One row for each config; parse_fail and no_cmd are per run."""
    cells = tuple(tuple(cell(row, plan.config(row.config)) for cell in COLUMNS.values()) for row in rows)
    first, *numbers = COLUMNS
    return Table((*left(first), *right(*numbers)), cells)


def _known(table: Table) -> Table:
    """Without the columns of which no cell is known."""
    kept = [place for place in range(len(table.columns)) if any(row[place] != "–" for row in table.rows)]
    rows = tuple(tuple(row[place] for place in kept) for row in table.rows)
    return Table(tuple(table.columns[place] for place in kept), rows)


def results_section(results: Results) -> Section:
    """The counts of every config."""
    plan, summary = results.plan, results.summary
    kinds = {config.name: config.kind for config in plan.configs}
    chart = figures(lambda width: pass_rates(summary.configs, kinds, summary.baseline, width))
    table = config_table(summary.configs, plan)
    if results.origin is not None:
        table = _known(table)
    note = Paragraph(
        (
            "parse_fail and no_cmd are per run. " if any(column.title == "no_cmd" for column in table.columns) else "",
            "Errors are excluded from rates. Fisher p: Fisher's exact test, "
            "two-sided, on counts pooled over the tasks on which both the config and the baseline have valid trials, "
            "as the field reports it. The test that decides is under ",
            Link("robustness", "Robustness"),
            ".",
        )
    )
    return Section("results", "Results", (*chart, table, note), brief=(table,))


def dose_response_section(results: Results) -> Section | None:
    """The metrics over α, as a chart; None where no direction was steered at two strengths."""
    rows, base = results.summary.configs, results.summary.baseline
    chart = figures(lambda width: dose_response(rows, results.plan.configs, base, width))
    return Section("dose-response", "Dose and response", chart) if chart else None
