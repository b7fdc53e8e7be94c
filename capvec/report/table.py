"""The table that ends a session: fits 100 columns, and says in words what it shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from textwrap import wrap

from capvec.plan.plan import Plan
from capvec.records import Config
from capvec.results.interim import equivalence_margin_of
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.power_warning import observed_power_warning
from capvec.stats.summary import Summary
from capvec.text import WIDTH, align, interval, number, p_value

HEADERS = ("config", "solved", "rate", "95 % Wilson", "errors", "steps", "parse_fail", "no_cmd", "dose", "Fisher p")


def table_lines(plan: Plan, summary: Summary) -> tuple[str, ...]:
    """One line for each config, and what the tests say in words."""
    rows = [HEADERS, *(table_row(row, plan.config(row.config)) for row in summary.configs)]
    calls = call_lines(summary) or (verdict(summary),)
    sentences = (*calls, *uncompared_lines(summary), *warnings(plan, summary))
    said = (part for line in sentences for part in wrap(line, WIDTH, subsequent_indent="  "))
    return (*align(rows), "", *said)


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
    """The calls of the family's configs in a sentence, alike ones together; controls are not among them."""
    called: defaultdict[str, list[str]] = defaultdict(list)
    for row in _family(summary):
        if row.verdict is not None:
            called[row.verdict.name].append(row.config)
    if not called:
        return "Nothing to compare: no config beside the baseline has a valid trial on a task that it has one on."
    return "; ".join(f"{name}: {', '.join(configs)}" for name, configs in called.items()) + "."


def call_lines(summary: Summary) -> tuple[str, ...]:
    """For each config of the family, what its effect is called and the numbers for it."""
    return tuple(f"{row.config} {row.verdict.words}." for row in _family(summary) if row.verdict is not None)


def uncompared_lines(summary: Summary) -> tuple[str, ...]:
    """Of the configs of the family that have no call, and that the verdict would pass over in silence."""
    return tuple(_uncompared(row) for row in _family(summary) if row.config in summary.uncompared)


def _uncompared(row: ConfigSummary) -> str:
    where = "" if row.n == 0 else " on a task that the baseline has one on"
    errors = f" ({row.errors} ended in an error)" if row.errors else ""
    return f"{row.config} has no valid trial{where}{errors}: it stays in the family, and nothing is known of it."


def warnings(plan: Plan, summary: Summary) -> tuple[str, ...]:
    """That the sweep is underpowered, where it is: the warning of its start, from what was observed."""
    short = observed_power_warning(summary, equivalence_margin_of(plan))
    return () if short is None else (short.words,)


def _family(summary: Summary) -> list[ConfigSummary]:
    return [row for row in summary.configs if row.config in summary.comparisons]


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    """A Markdown table; the first row is the head."""
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows]
    return [lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]
