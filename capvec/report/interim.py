"""What `--sequential` did: the interim analyses with their boundaries, and the decision at each."""

from __future__ import annotations

from collections.abc import Iterator

from capvec.report.section import Block, Code, Paragraph, Row, Section, Table, Text, join, left, right
from capvec.stats.futility import FUTILE
from capvec.stats.sequential import InterimAnalysis, Sequential
from capvec.stats.summary import Summary
from capvec.text import number, signed

_COLUMNS = (
    *left("config"),
    *right("analysis", "t", "spent", "boundary", "difference", "p", "chance"),
    *left("decision"),
)


def interim_section(summary: Summary) -> Section | None:
    """A row for each interim analysis; None without `--sequential`."""
    interim = summary.sequential
    if interim is None:
        return None
    table = Table(_COLUMNS, tuple(_rows(interim)))
    levels, late = _levels(interim), _overrun(interim)
    blocks: list[Block] = [Paragraph(_schedule(interim)), table, Paragraph(_legend(levels))]
    if interim.ends:
        blocks.append(Paragraph(_STOPPED))
        blocks += map(Paragraph, late)
    brief: tuple[Block, ...] = (table, Paragraph(levels), *map(Paragraph, late))
    return Section("interim-analyses", "Interim analyses", tuple(blocks), brief)


_STOPPED = (
    "The numbers of a config that stopped come from its blocks up to that analysis, and so do those of the baseline "
    "that it is compared with. The rate, the difference and the interval are given as if no more had been planned. "
    "They are not corrected for the interim analyses; after a stop for efficacy they are biased away from zero. Only "
    "the sign-flip p-values of the steered configs allow for interim analyses."
)


def _schedule(interim: Sequential) -> Text:
    after = ", ".join(str(count) for count in interim.schedule)
    several = len(interim.schedule) > 1
    stopped = ", and stopped when its verdict was clear" if several else ", at the end only"
    return (
        "With ",
        Code("--sequential"),
        f" each steered config was analysed after {after} of {len(interim.blocks)} (task, attempt) blocks{stopped}.",
    )


def _legend(levels: str) -> Text:
    return join(
        f"t: share of the planned trials. Spent: the part of the level that may have been used by then. {levels} "
        "Boundary: a difference farther from zero stops the config for efficacy; a dash where none does. p: ordered by "
        "stage, as if that analysis were the last. Chance: the probability that the final analysis rejects. Where it "
        f"is below {FUTILE:.0%}, and a narrow interval is either there already or out of reach, the config stops for "
        "futility and its p-value counts as 1. The rule is in ",
        Code("capvec/stats/sequential.py"),
        ", the boundaries are in ",
        Code("capvec/stats/spending.py"),
        ".",
    )


def _rows(interim: Sequential) -> Iterator[Row]:
    for test in interim.tests:
        yield from (_row(test.config, one, test.planned) for one in test.analyses)
        if not test.analyses:
            yield (test.config, f"0 of {test.planned}", *("–",) * (len(_COLUMNS) - 3), "not analysed")


def _row(config: str, one: InterimAnalysis, planned: int) -> Row:
    return (
        config,
        f"{one.number} of {planned}",
        number(one.share),
        small(one.spent),
        f"±{one.boundary:.2f}" if one.boundary is not None else "–",
        signed(one.difference),
        small(one.pvalue),
        "–" if one.predictive is None else f"{one.predictive:.0%}",
        one.decision,
    )


def small(value: float) -> str:
    """A probability with four decimals, since early analyses spend little."""
    return "<0.0001" if value < 0.0001 else number(value, 4)


def _levels(interim: Sequential) -> str:
    configs = len(interim.tests)
    each = f" over {configs} configs = {interim.level / configs:.4g} each" if configs > 1 else ""
    return f"Level: {interim.level:g}{each}, spent as 2 − 2Φ(z/√t)."


def _overrun(interim: Sequential) -> tuple[str, ...]:
    """Trials that were running when their config stopped."""
    counts = [f"{count} of {name}" for name, count in interim.overrun.items() if count]
    if not counts:
        return ()
    return (f"Trials that ended after their config had stopped are recorded and not analysed: {', '.join(counts)}.",)
