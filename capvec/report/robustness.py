"""What stands behind the calls: other tests, other outcomes, other readings of them, and the baseline itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.report.table import markdown_table
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.drift import Drift
from capvec.stats.effects import Effect
from capvec.stats.mediation import Mediation
from capvec.stats.summary import Summary
from capvec.text import number, p_value, signed

_TITLE = "## What stands behind it\n"


def behind_section(summary: Summary) -> Iterator[str]:
    """Markdown lines; none where no config can be compared with the baseline, however its errors are counted."""
    rows = [row for row in summary.configs if row.effect is not None]
    read = [row for row in summary.configs if row.sensitivity]
    if not (rows or read):
        return
    yield _TITLE
    looked = summary.sequential is not None
    for lines in (_tests(rows), _mediation(rows), _secondary(rows), _sensitivity(read, looked), _drift(summary.drift)):
        yield from lines


def _tests(rows: Sequence[ConfigSummary]) -> Iterator[str]:
    if not rows:
        return
    yield "### The tests side by side\n"
    head = ("config", "difference", "95 %, by task", "sign-flip", "after Holm", "CMH", "McNemar", "Fisher")
    lines = []
    for row in rows:
        effect = row.effect
        assert effect is not None
        span = "–" if effect.interval is None else f"{signed(effect.interval.low)} to {signed(effect.interval.high)}"
        pooled = (row.cmh, row.mcnemar, row.fisher)
        pvalues = (effect.pvalue, effect.holm, *(None if test is None else test.pvalue for test in pooled))
        lines.append((row.config, signed(effect.difference), span, *(p_value(value) for value in pvalues)))
    yield from markdown_table([head, *lines])
    yield (
        "\nThe sign-flip test speaks about tasks like these, and decides; the exact Cochran–Mantel–Haenszel test about "
        "these tasks alone. McNemar's goes by (task, attempt) pairs, Fisher's by pooled counts, as if "
        "trials of a task had nothing in common. All are two-sided.\n"
    )


def _mediation(rows: Sequence[ConfigSummary]) -> Iterator[str]:
    found = [(row.config, row.mediation) for row in rows if row.mediation is not None]
    if not found:
        return
    yield "### Did solving change, or only the form?\n"
    rest = "+ where every reply acted or said it was done"
    head = ("config", "difference", "= through parse_fail", "+ through no_cmd", rest)
    yield from markdown_table([head, *((name, *_terms(one)) for name, one in found)])
    yield "\nThe change in pass rate, split by what became of the replies. It describes; none of it is tested."
    yield from (f"`{name}` is not split: {one.words}." for name, one in found if one.without_clean is not None)
    yield ""


def _terms(one: Mediation) -> Iterator[str]:
    split = (one.through_parse_fail, one.through_no_cmd, one.remainder)
    yield signed(one.difference)
    yield from (signed(term if one.without_clean is None else None) for term in split)


def _secondary(rows: Sequence[ConfigSummary]) -> Iterator[str]:
    effects = [effect for row in rows for effect in row.secondary]
    if not effects:
        return
    yield "### parse_fail, no_cmd and steps per run\n"
    head = ("config", "metric", "baseline", "config's", "difference", "p", "p after Holm")
    lines = [
        (
            effect.config,
            effect.metric,
            number(effect.baseline),
            number(effect.value),
            signed(effect.difference),
            p_value(effect.pvalue),
            p_value(effect.holm),
        )
        for effect in effects
    ]
    yield from markdown_table([head, *lines])
    yield "\nMeans over tasks; p by the sign-flip test over tasks. Controls are in no family: no p after Holm.\n"


def _sensitivity(rows: Sequence[ConfigSummary], looked: bool) -> Iterator[str]:
    if not rows:
        return
    yield "### Does it hang on how trials are counted?\n"
    lines = [
        (row.config, one.reading, *_as_read(one.effect)) for row in rows if _differ(row) for one in row.sensitivity
    ]
    if lines:
        yield from markdown_table([("config", "reading", "difference", "p", "p after Holm"), *lines])
        yield "\nThese p-values are as if nobody had looked before the end.\n" if looked else ""
    if alike := [f"`{row.config}`" for row in rows if not _differ(row)]:
        yield f"The same however errors and repaired replies are counted: {', '.join(alike)}.\n"


def _as_read(effect: Effect) -> tuple[str, ...]:
    return signed(effect.difference), p_value(effect.pvalue), p_value(effect.holm)


def _differ(row: ConfigSummary) -> bool:
    return len({_as_read(one.effect) for one in row.sensitivity}) > 1


def _drift(drift: Drift) -> Iterator[str]:
    tests = {
        "pass rate with time": drift.pass_trend,
        "steps with time": drift.steps_trend,
        "pass rate between workers": drift.pass_by_worker,
    }
    lines = [(name, number(test.statistic), p_value(test.pvalue)) for name, test in tests.items() if test is not None]
    if not lines:
        return
    yield "### Did the baseline drift?\n"
    yield from markdown_table([("of the baseline", "statistic", "p"), *lines])
    exchanged = "within their task" if drift.within_tasks else "between tasks too, one attempt each"
    exchanged += " but not between the runs that were merged" if drift.runs > 1 and not drift.within_tasks else ""
    yield f"\nPermutation tests on {drift.trials} baseline trials, exchanged {exchanged}.\n"
