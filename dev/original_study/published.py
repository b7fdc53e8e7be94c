"""The published table of the original study, and the description of a sweep in the same words.

The table is of the Qwen3.5-4B capability vector v2, 2026-05-14: one attempt at each of six tasks ("multi"), and pass
counts alone for five ("sprint"). Only these totals were published, so the descriptions use nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from capvec.records import Config
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.format_change import FormatChange
from dev.original_study.totals import Totals, format_change_of_totals

MULTI: Mapping[str, Totals] = {
    Config.BASELINE: Totals(2, 6, parse_fail=2.2, no_cmd=1.2),
    "steered-L22-α4": Totals(2, 6, parse_fail=1.3, no_cmd=2.7),
    "steered-L30-α4": Totals(1, 6, parse_fail=1.8, no_cmd=0.3),
}
SPRINT: Mapping[str, Totals] = {Config.BASELINE: Totals(1, 5), "α = 4": Totals(1, 5), "α = 2": Totals(0, 5)}
TRADE = format_change_of_totals(MULTI["steered-L22-α4"], MULTI[Config.BASELINE])
"""The change of format and solving at the layer that the original study reports."""


def change_of(row: ConfigSummary, base: ConfigSummary) -> FormatChange | None:
    """The change between two configs, from their totals; None if a row has no valid trial."""
    if not row.n or not base.n:
        return None
    return format_change_of_totals(_totals(row), _totals(base))


def in_short(row: ConfigSummary, base: ConfigSummary) -> str:
    """The name of the change, the tasks that it holds for, and the verdict. Fisher's test is about these tasks."""
    change = change_of(row, base)
    if change is None:
        return "no valid trial"
    call = row.verdict
    if call is None:
        return change.name
    known = change.pass_rate == "flat" or call.name in ("improves", "harms")
    where = "" if known else f" on these {row.effect.tasks if row.effect else 0} tasks; nothing is known about others"
    return f"{change.name}{where} (verdict: {call.name})"


def words_section(rows: Mapping[str, ConfigSummary]) -> Iterator[str]:
    """The counts of the original study and of a sweep, in the words of `capvec.stats.format_change`.

    Args:
        rows: config → its statistics, including the baseline.
    """
    yield "\n## Did solving change, or only the format?\n"
    yield "The original study's counts, in capvec's words:\n"
    for tasks, table in (("six tasks", MULTI), ("sprint", SPRINT)):
        for name, totals in table.items():
            if name != Config.BASELINE:
                yield f"- {tasks}, {name}: {format_change_of_totals(totals, table[Config.BASELINE]).words}"
    yield "\nThis sweep in the same words, from its totals alone, with the verdict from its trials:\n"
    for name, row in rows.items():
        if name != Config.BASELINE:
            change = change_of(row, rows[Config.BASELINE])
            verdict = f" Verdict: {row.verdict.words}." if row.verdict else ""
            yield f"- {name}: {change.words if change else 'no valid trial to compare.'}{verdict}"


def _totals(row: ConfigSummary) -> Totals:
    return Totals(row.solved, row.n, row.parse_fail_per_run, row.no_cmd_per_run)
