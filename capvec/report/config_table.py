"""The table of configs, in every report. To add a column, add an entry to `COLUMNS`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.report.charts.configs import pass_rates
from capvec.report.charts.dose_response import dose_response
from capvec.report.figures import figure
from capvec.report.section import Column, Link, Paragraph, Section, Table, left, right
from capvec.results.results import Results
from capvec.stats.config_summary import ConfigSummary
from capvec.text import interval, number, p_value


@dataclass(frozen=True)
class ConfigColumn:
    """One column of the table."""

    column: Column
    cell: Callable[[ConfigSummary, Config], str]
    """From the statistics of a config, and the config as it was planned."""


def _column(title: str, cell: Callable[[ConfigSummary, Config], str]) -> ConfigColumn:
    return ConfigColumn(right(title)[0], cell)


COLUMNS = (
    ConfigColumn(left("config")[0], lambda row, _: row.config),
    _column("solved", lambda row, _: f"{row.solved}/{row.n}"),
    _column("rate", lambda row, _: number(row.pass_rate)),
    _column("95 % Wilson", lambda row, _: interval(row.wilson)),
    _column("errors", lambda row, _: str(row.errors)),
    _column("steps", lambda row, _: number(row.mean_steps, 1)),
    _column("parse_fail", lambda row, _: number(row.parse_fail_per_run, 1)),
    _column("no_cmd", lambda row, _: number(row.no_cmd_per_run, 1)),
    _column("dose", lambda _, config: number(config.dose)),
    _column("Fisher p", lambda row, _: p_value(row.fisher.pvalue if row.fisher else None)),
)


def config_table(rows: Iterable[ConfigSummary], plan: Plan) -> Table:
    """One row for each config; parse_fail and no_cmd are per run."""
    cells = tuple(tuple(one.cell(row, plan.config(row.config)) for one in COLUMNS) for row in rows)
    return Table(tuple(one.column for one in COLUMNS), cells)


def results_section(results: Results) -> Section:
    """The counts of every config."""
    plan, summary = results.plan, results.summary
    kinds = {config.name: config.kind for config in plan.configs}
    chart = figure(lambda width: pass_rates(summary.configs, kinds, summary.baseline, width))
    table = config_table(summary.configs, plan)
    note = Paragraph(
        (
            "parse_fail and no_cmd are per run. Errors are excluded from rates. Fisher p: Fisher's exact test, "
            "two-sided, on counts pooled over the tasks on which both the config and the baseline have valid trials, "
            "as the field reports it. The test that decides is under ",
            Link("robustness", "Robustness"),
            ".",
        )
    )
    return Section("results", "Results", (*([chart] if chart else []), table, note), brief=(table,))


def dose_response_section(results: Results) -> Section | None:
    """The metrics over α, as a chart; None where no direction was steered at two strengths."""
    rows, base = results.summary.configs, results.summary.baseline
    chart = figure(lambda width: dose_response(rows, results.plan.configs, base, width))
    return Section("dose-response", "Dose and response", (chart,)) if chart else None
