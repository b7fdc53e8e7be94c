"""What `--sequential` did: the looks with their boundaries, and what was decided at each."""

from __future__ import annotations

from collections.abc import Iterator

from capvec.report.table import markdown_table
from capvec.stats.futility import FUTILE
from capvec.stats.sequential import InterimAnalysis, Sequential
from capvec.stats.summary import Summary
from capvec.text import align, number, signed

_HEADS = ("config", "look", "t", "spent", "boundary", "difference", "p", "chance", "decision")


def look_lines(summary: Summary) -> tuple[str, ...]:
    """For the terminal: one line for each look; nothing without `--sequential`."""
    looks = summary.sequential
    if looks is None:
        return ()
    return ("", *align([_HEADS, *_rows(looks)]), _levels(looks), *_overrun(looks))


def looks_section(summary: Summary) -> Iterator[str]:
    """For `RESULTS.md`; nothing without `--sequential`."""
    looks = summary.sequential
    if looks is None:
        return
    yield "\n## Looks\n"
    seen = ", ".join(str(count) for count in looks.schedule)
    yield (
        f"With `--sequential` each steered config was looked at after {seen} of {len(looks.blocks)} (task, attempt) "
        f"blocks, {'and stopped where its fate was clear' if len(looks.schedule) > 1 else 'at the end alone'}:\n"
    )
    yield from markdown_table([_HEADS, *_rows(looks)])
    yield (
        f"\nt: share of the planned trials. Spent: what of the level may have been used by then. {_levels(looks)} "
        "Boundary: a difference farther from zero stops for efficacy; a dash where none does. p: ordered by stage, as "
        f"if that look were the last. Chance: that the end rejects; below {FUTILE:.0%}, and with no hope of a narrow "
        "interval or one there already, the config stops for futility, and its p-value counts as 1. The rule is in "
        "`capvec/stats/sequential.py`, the boundaries in `capvec/stats/spending.py`.\n"
    )
    if looks.ends:
        yield (
            "Numbers of a config that stopped come from its blocks up to that look, the baseline's among them: rate, "
            "difference and interval are given as if no more had been planned. Nothing corrects them for having been "
            "looked at; after a stop for efficacy they lean outward. No p-value but the sign-flip test's of the "
            "steered configs allows for looks.\n"
        )
        yield from (f"{line}\n" for line in _overrun(looks))


def _rows(looks: Sequential) -> Iterator[tuple[str, ...]]:
    for test in looks.tests:
        yield from (_row(test.config, look, test.planned) for look in test.analyses)
        if not test.analyses:
            yield (test.config, f"0 of {test.planned}", *("–",) * (len(_HEADS) - 3), "not looked at")


def _row(config: str, look: InterimAnalysis, planned: int) -> tuple[str, ...]:
    return (
        config,
        f"{look.number} of {planned}",
        number(look.share),
        small(look.spent),
        f"±{look.boundary:.2f}" if look.boundary is not None else "–",
        signed(look.difference),
        small(look.pvalue),
        "–" if look.predictive is None else f"{look.predictive:.0%}",
        look.decision,
    )


def small(value: float) -> str:
    """A probability with four decimals: early looks spend that little."""
    return "<0.0001" if value < 0.0001 else number(value, 4)


def _levels(looks: Sequential) -> str:
    family = len(looks.tests)
    each = f" over {family} configs = {looks.level / family:.4g} each" if family > 1 else ""
    return f"Level: {looks.level:g}{each}, spent as 2 − 2Φ(z/√t)."


def _overrun(looks: Sequential) -> tuple[str, ...]:
    """Trials that were under way when their config stopped."""
    counts = [f"{count} of {name}" for name, count in looks.overrun.items() if count]
    if not counts:
        return ()
    return (f"Ended after their config had stopped, on record and in no number: {', '.join(counts)}.",)
