"""pass@k of each config, where tasks have several attempts."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from capvec.report.section import Link, Paragraph, Row, Section, Table, left, right
from capvec.results.results import Results
from capvec.stats.pass_at_k import ConfigPassAtK, PassAtK
from capvec.text import interval, number, signed


def pass_at_k_section(results: Results) -> Section | None:
    """Estimates and differences from the baseline; None where no task has two valid trials under one config."""
    summary = results.summary
    if not summary.pass_at_k:
        return None
    titles = ("k", "pass@k", "95 %", "difference", "95 %, by task", "tasks")
    columns = (*left("config"), *right(*titles))
    table = Table(columns, tuple(_rows(summary.pass_at_k)))
    common = min(len(one.by_k) for one in summary.pass_at_k)
    largest = Table(columns, tuple(_row(one.config, one.by_k[common - 1]) for one in summary.pass_at_k))
    note = (
        "pass@k is the chance that at least one of k attempts solves a task: for each task the unbiased estimate of "
        "Chen et al. (2021) from its valid trials, then the mean over the tasks with at least k of them. Intervals are "
        "for tasks like these, with the task as the unit. Differences are from the baseline, on the tasks that both "
        "have k valid trials of; they are not tested, and do not decide the ",
        Link("verdict", "verdict"),
        ".",
    )
    return Section("pass-at-k", "pass@k", (table, Paragraph(note)), brief=(largest,))


def shown_ks(most: int) -> list[int]:
    """The powers of two below the largest k, and it; `summary.json` has all."""
    return [*(2**power for power in range(most.bit_length()) if 2**power < most), most]


def _rows(configs: Sequence[ConfigPassAtK]) -> Iterator[Row]:
    ks = sorted({k for one in configs for k in shown_ks(len(one.by_k))})
    for one in configs:
        yield from (_row(one.config, one.by_k[k - 1]) for k in ks if k <= len(one.by_k))


def _row(config: str, found: PassAtK) -> Row:
    spread = found.difference_interval
    return (
        config,
        str(found.k),
        number(found.estimate),
        interval(found.interval),
        signed(found.difference),
        "–" if spread is None else f"{signed(spread.low)} to {signed(spread.high)}",
        str(found.tasks),
    )
