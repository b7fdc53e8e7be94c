"""The answer: what the effect of each config is called, and the numbers for it."""

from __future__ import annotations

from collections import defaultdict

from capvec.plan.plan import Plan
from capvec.report.charts.configs import differences
from capvec.report.figures import figures
from capvec.report.section import Block, Code, Finding, Findings, Inline, Paragraph, Section, listed
from capvec.results.interim import equivalence_margin_of
from capvec.results.results import Results
from capvec.results.shards import absent_shards
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.power_warning import observed_power_warning
from capvec.stats.summary import Summary


def verdict_section(results: Results) -> Section:
    """The verdict on every config that was compared; controls are not among them."""
    summary = results.summary
    if results.plan.shard is not None:
        why_none = Paragraph(answer(results))
        return Section("verdict", "Verdict", (why_none,), brief=(why_none,))
    rows = compared(summary)
    found = findings(summary)
    blocks: tuple[Block, ...] = ()
    if found.items:
        blocks = (found, *figures(lambda width: differences(rows, width)), Paragraph(_note(summary)))
    said = (*uncompared(summary), *warnings(results.plan, summary), *absent_shards(results.plan.dealing))
    brief = found if found.items else Paragraph(verdict(summary))
    return Section("verdict", "Verdict", blocks, brief=(brief, *map(Paragraph, said)))


def _note(summary: Summary) -> tuple[Inline, ...]:
    return (
        "The p-values are from the sign-flip test over tasks, corrected by Holm's method for the comparisons of ",
        *listed(summary.comparisons),
        " with the baseline (controls are not among them). Intervals are 95 %, clustered by task. The rule is in ",
        Code("capvec/stats/verdict.py"),
        ".",
    )


def findings(summary: Summary) -> Findings:
    """The name of each effect and its sentence."""
    return Findings(
        tuple(
            Finding(row.config, row.verdict.name, row.verdict.words.removeprefix(row.verdict.name))
            for row in compared(summary)
            if row.verdict is not None
        )
    )


def answer(results: Results) -> str:
    """The verdicts, and which shards are missing; of a shard that was not merged, how to get a verdict."""
    plan = results.plan
    if (shard := plan.shard) is None:
        return " ".join((verdict(results.summary), *uncompared(results.summary), *absent_shards(plan.dealing)))
    planned = len(shard.blocks) * len(plan.configs)
    return (
        f"No verdict: this is {shard.in_words}, with {len(plan.trials)} of the plan's {planned} trials. capvec report "
        "merges the shards, and judges verdict and gates on all trials."
    )


def verdict(summary: Summary) -> str:
    """The verdicts in one sentence, with the configs of each."""
    called: defaultdict[str, list[str]] = defaultdict(list)
    for row in compared(summary):
        if row.verdict is not None:
            called[row.verdict.name].append(row.config)
    if not called:
        return "Nothing to compare: no other config has a valid trial on a task on which the baseline has one."
    return "; ".join(f"{name}: {', '.join(configs)}" for name, configs in called.items()) + "."


def uncompared(summary: Summary) -> tuple[str, ...]:
    """A sentence for each config that was to be compared and cannot be."""
    return tuple(_uncompared(row) for row in compared(summary) if row.config in summary.uncompared)


def _uncompared(row: ConfigSummary) -> str:
    where = "" if row.n == 0 else " on a task on which the baseline has one"
    errors = f" ({row.errors} ended in an error)" if row.errors else ""
    return f"{row.config} has no valid trial{where}{errors}. It is counted in the correction and has no result."


def warnings(plan: Plan, summary: Summary) -> tuple[str, ...]:
    """The warning that the sweep is underpowered, from what was observed; empty where it is not."""
    found = observed_power_warning(summary, equivalence_margin_of(plan))
    return () if found is None else (found.words,)


def compared(summary: Summary) -> list[ConfigSummary]:
    """The rows of the configs whose comparisons are corrected together."""
    return [row for row in summary.configs if row.config in summary.comparisons]
