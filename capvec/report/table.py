"""The table that ends a session: fits 100 columns, and says in words what it shows."""

from __future__ import annotations

import math
from collections.abc import Sequence

from capvec.records import Config
from capvec.stats.intervals import Interval
from capvec.stats.summary import ConfigSummary, Summary
from capvec.sweep.gate import GateResult
from capvec.sweep.ledger import Reconciliation
from capvec.sweep.plan import Plan

HEADERS = ("config", "solved", "rate", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd", "dose", "Fisher p")
_NAME_WIDTH = 28


def table_lines(plan: Plan, summary: Summary) -> tuple[str, ...]:
    """One line for each config, and what the tests say in words."""
    rows = [HEADERS, *(table_row(row, plan.config(row.config)) for row in summary.configs)]
    return (*align(rows), "", verdict(summary))


def closing_lines(
    plan: Plan, lines: Sequence[str], gates: Sequence[GateResult], reconciliation: Reconciliation
) -> tuple[str, ...]:
    """Everything the terminal shows after the last trial: the study's own lines, then what every study ends with."""
    missing = [str(reconciliation)] if reconciliation.missing else []
    judged = [f"gate {'met' if gate.met else 'NOT MET'}: {gate.condition} ({gate.reason})" for gate in gates]
    return (*lines, *missing, *judged, f"report: {plan.folder / 'RESULTS.md'}")


def table_row(row: ConfigSummary, config: Config) -> tuple[str, ...]:
    """One config as text, column by column as in `HEADERS`; parse_fail and no_cmd are per run."""
    return (
        row.config,
        f"{row.solved}/{row.n}",
        number(row.pass_rate),
        interval(row.wilson),
        str(row.errors),
        number(row.mean_steps, 1),
        number(row.parse_fail_per_run, 1),
        number(row.no_cmd_per_run, 1),
        number(config.dose),
        p_value(row.fisher.pvalue if row.fisher else None),
    )


def verdict(summary: Summary) -> str:
    """What the Fisher tests say, without saying more."""
    tested = [(row, row.fisher.pvalue) for row in summary.configs if row.fisher is not None]
    if not tested:
        return "Nothing to compare: no config beside the baseline has a valid trial."
    first, pvalue = min(tested, key=lambda pair: pair[1])
    if pvalue >= 0.05:
        return (
            f"No config differs from baseline: every Fisher p ≥ {pvalue:.3g}. That is no proof of no effect at this n."
        )
    base = next(row for row in summary.configs if row.config == summary.baseline)
    finding = (
        f"{first.config} solves {'more' if (first.pass_rate or 0) > (base.pass_rate or 0) else 'less'} than baseline: "
        f"Fisher p = {pvalue:.3g}"
    )
    if len(tested) == 1:
        return f"{finding}."
    differing = sum(other < 0.05 for _, other in tested)
    return (
        f"{finding}, the smallest of {len(tested)}; {differing} {'is' if differing == 1 else 'are'} below 0.05, "
        "not corrected for the number of comparisons."
    )


def align(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns side by side: the first flush left and cut at 28 characters, the others flush right."""
    short = [(_shorten(row[0]), *row[1:]) for row in rows]
    widths = [max(map(len, column)) for column in zip(*short, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *(cell.rjust(w) for cell, w in zip(row[1:], widths[1:], strict=True))])
        for row in short
    ]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]


def number(value: float | None, digits: int = 2) -> str:
    """A number as the report shows it; `–` for one that does not exist, `inf` for an infinite odds ratio."""
    if value is None or math.isnan(value):
        return "–"
    return f"{value:.{digits}f}"


def p_value(value: float | None) -> str:
    """To three decimals: `0.182`, `<0.001`, or `–`."""
    return "<0.001" if value is not None and value < 0.001 else number(value, 3)


def interval(value: Interval | None) -> str:
    """`.08–.61`, or `–`."""
    return "–" if value is None else f"{value.low:.2f}–{value.high:.2f}"


def _shorten(name: str) -> str:
    return name if len(name) <= _NAME_WIDTH else name[: _NAME_WIDTH - 1] + "…"
