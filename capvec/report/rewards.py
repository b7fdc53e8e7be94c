"""The mean reward of each config, where rewards are more than 0 and 1, and the mean of each named reward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.decimals import as_written
from capvec.plan.plan import Settings
from capvec.records import Interval
from capvec.report.section import Block, Code, Heading, Inline, Paragraph, Section, Table, left, right
from capvec.results.results import Results
from capvec.stats.rewards import ConfigRewards, RewardSummary
from capvec.text import p_value, printable


def rewards_section(results: Results) -> Section | None:
    """Means, differences and tests; None where every trial has one reward of 0 or 1, as the pass rate says it all."""
    summary = results.summary.rewards
    if summary is None:
        return None
    blocks: list[Block] = []
    if summary.partial:
        table = _means(summary.configs)
        blocks += [Paragraph(solved_in_words(results.plan.settings)), table]
        blocks.append(Paragraph(_note(interim=results.summary.sequential is not None)))
    brief = tuple(blocks[:2])
    return Section("rewards", "Rewards", (*blocks, *_named(summary)), brief=brief)


def solved_in_words(settings: Settings) -> tuple[Inline, ...]:
    """Which reward counts, and from where on a trial is solved."""
    named: tuple[Inline, ...] = () if settings.reward is None else (" named ", Code(settings.reward))
    return ("A trial is solved from a reward", *named, f" of {as_written(settings.solved_at)}.")


def _means(rows: Sequence[ConfigRewards]) -> Table:
    titles = ("mean reward", "95 % Wilson", "difference", "95 %, by task", "sign-flip", "after Holm")
    return Table((*left("config"), *right(*titles)), tuple((row.config, *_cells(row)) for row in rows))


def _cells(row: ConfigRewards) -> Iterator[str]:
    effect = row.effect
    yield reward(row.mean)
    yield "–" if row.interval is None else f"{reward(row.interval.low)}–{reward(row.interval.high)}"
    yield "–" if effect is None else reward(effect.difference, "+")
    yield "–" if effect is None else _span(effect.interval)
    yield p_value(None if effect is None else effect.pvalue)
    yield p_value(None if effect is None else effect.holm)


def _span(interval: Interval | None) -> str:
    return "–" if interval is None else f"{reward(interval.low, '+')} to {reward(interval.high, '+')}"


def _note(*, interim: bool) -> str:
    return (
        "The mean reward counts partial success, which the pass rate does not; the verdict is on the pass rate. Its "
        "difference is tested as that of the pass rate is: by the sign-flip test over tasks, corrected by Holm's "
        "method for the comparisons of the steered configs. Errors have no reward."
        + (" These p-values do not allow for interim analyses." if interim else "")
    )


def _named(summary: RewardSummary) -> Iterator[Block]:
    names = list(dict.fromkeys(name for row in summary.configs for name in row.named))
    if not names:
        return
    yield Heading("Every reward by name")
    rows = tuple((printable(name), *(_named_mean(row, name) for row in summary.configs)) for name in names)
    yield Table((*left("mean of"), *right(*(row.config for row in summary.configs))), rows)
    yield Paragraph(
        "Means over the valid trials that have the reward; in brackets their number, where some have none. They are "
        "not tested."
    )


def _named_mean(row: ConfigRewards, name: str) -> str:
    found = row.named.get(name)
    if found is None:
        return "–"
    return reward(found.mean) + (f" ({found.n})" if found.n < row.n else "")


def reward(value: float | None, sign: str = "") -> str:
    """`0.25`, or with three digits where that shows less or too much, as in `0.00123` and `1.5e+07`."""
    if value is None:
        return "–"
    plain = value == 0 or 0.01 <= abs(value) < 10_000
    return f"{value:{sign}{'.2f' if plain else '.3g'}}".replace("-", "−")
