"""Whether the verdicts hold under other tests, other outcomes and other readings, and whether the baseline drifted."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.report.section import Block, Heading, Paragraph, Section, Table, join, left, listed, right
from capvec.stats.config_summary import ConfigSummary
from capvec.stats.drift import Drift
from capvec.stats.effects import SECONDARY, Effect
from capvec.stats.mediation import Mediation
from capvec.stats.summary import Summary
from capvec.text import number, p_value, signed


def robustness_section(summary: Summary) -> Section | None:
    """One part for each question; None where no config can be compared, however its errors are counted."""
    rows = [row for row in summary.configs if row.effect is not None]
    read = [row for row in summary.configs if row.sensitivity]
    if not (rows or read):
        return None
    blocks = (
        *_tests(rows),
        *_mediation(rows),
        *_secondary(rows),
        *_sensitivity(read, summary),
        *_drift(summary.drift),
    )
    return Section("robustness", "Robustness", blocks, folded="Other tests, other outcomes, other readings, drift")


def _tests(rows: Sequence[ConfigSummary]) -> Iterator[Block]:
    if not rows:
        return
    yield Heading("The tests side by side")
    tests = ("difference", "95 %, by task", "sign-flip", "after Holm", "CMH", "McNemar", "Fisher")
    lines = []
    for row in rows:
        effect = row.effect
        assert effect is not None
        span = "–" if effect.interval is None else f"{signed(effect.interval.low)} to {signed(effect.interval.high)}"
        pooled = (row.cmh, row.mcnemar, row.fisher)
        pvalues = (effect.pvalue, effect.holm, *(None if test is None else test.pvalue for test in pooled))
        lines.append((row.config, signed(effect.difference), span, *(p_value(value) for value in pvalues)))
    yield Table((*left("config"), *right(*tests)), tuple(lines))
    yield Paragraph(
        "The sign-flip test generalises to tasks like these and decides the verdict. The exact Cochran–Mantel–Haenszel "
        "test is about these tasks only. McNemar's test uses (task, attempt) pairs. Fisher's test uses "
        "pooled counts, as if the trials of a task had nothing in common. All tests are two-sided."
    )


def _mediation(rows: Sequence[ConfigSummary]) -> Iterator[Block]:
    found = [(row.config, row.mediation) for row in rows if row.mediation is not None]
    if not found:
        return
    yield Heading("Did solving change, or only the format?")
    rest = "+ where every reply acted or said it was done"
    columns = (*left("config"), *right("difference", "= through parse_fail", "+ through no_cmd", rest))
    yield Table(columns, tuple((name, *_terms(one)) for name, one in found))
    yield Paragraph("The change in pass rate, split by what happened to the replies. It is descriptive and not tested.")
    for why in dict.fromkeys(one.words for _, one in found if one.without_clean is not None):
        names = [name for name, one in found if one.words == why]
        yield Paragraph((*listed(names), f" {'is' if len(names) == 1 else 'are'} not split: {why}."))


def _terms(one: Mediation) -> Iterator[str]:
    split = (one.through_parse_fail, one.through_no_cmd, one.remainder)
    yield signed(one.difference)
    yield from (signed(term if one.without_clean is None else None) for term in split)


def _secondary(rows: Sequence[ConfigSummary]) -> Iterator[Block]:
    effects = [effect for row in rows for effect in row.secondary]
    if not effects:
        return
    yield Heading(
        f"{_listed_plainly([metric for metric in SECONDARY if any(e.metric == metric for e in effects)])} per run"
    )
    columns = (*left("config", "metric"), *right("baseline", "config", "difference", "p", "p after Holm"))
    lines = tuple(
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
    )
    yield Table(columns, lines)
    yield Paragraph(
        "Means over tasks. p is from the sign-flip test over tasks. Controls are not part of the correction and have "
        "no p after Holm."
    )


def _listed_plainly(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def _sensitivity(rows: Sequence[ConfigSummary], summary: Summary) -> Iterator[Block]:
    if not rows:
        return
    yield Heading("Does the result depend on how trials are counted?")
    lines = tuple(
        (row.config, one.reading, *_as_read(one.effect)) for row in rows if _differ(row) for one in row.sensitivity
    )
    if lines:
        yield Table((*left("config", "reading"), *right("difference", "p", "p after Holm")), lines)
        if summary.sequential is not None:
            yield Paragraph("These p-values do not allow for interim analyses.")
    if alike := [row.config for row in rows if not _differ(row)]:
        counted = "errors" if "repaired" in summary.unrecorded else "errors and repaired replies"
        yield Paragraph(join(f"The same however {counted} are counted: ", listed(alike), "."))


def _as_read(effect: Effect) -> tuple[str, ...]:
    return signed(effect.difference), p_value(effect.pvalue), p_value(effect.holm)


def _differ(row: ConfigSummary) -> bool:
    return len({_as_read(one.effect) for one in row.sensitivity}) > 1


def _drift(drift: Drift) -> Iterator[Block]:
    tests = {
        "pass rate with time": drift.pass_trend,
        "steps with time": drift.steps_trend,
        "pass rate between workers": drift.pass_by_worker,
    }
    lines = tuple(
        (name, number(test.statistic).replace("-", "−"), p_value(test.pvalue))
        for name, test in tests.items()
        if test is not None
    )
    if not lines:
        return
    yield Heading("Did the baseline drift?")
    yield Table((*left("of the baseline"), *right("statistic", "p")), lines)
    exchanged = "within their task" if drift.within_tasks else "also between tasks, with one attempt each"
    if drift.runs > 1 and not drift.within_tasks:
        exchanged += ", but not between the runs that were merged"
    yield Paragraph(f"Permutation tests on {drift.trials} baseline trials, which were exchanged {exchanged}.")
