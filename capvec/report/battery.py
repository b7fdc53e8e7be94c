"""What each config costs beside the tasks: its answers to the questions of `--battery`."""

from __future__ import annotations

from collections.abc import Iterator

from capvec.records import Config
from capvec.report.section import Paragraph, Row, Section, Table, left, right
from capvec.results.battery import BatteryResult, Cost
from capvec.results.results import Results
from capvec.stats.intervals import clopper_pearson
from capvec.text import counted, p_value, signed

LOW = 0.3
"""Accuracy of the baseline below which a battery shows little, whatever guessing gives."""
_METHOD = (
    "Each item is asked once under every config, at temperature 0 and after the trials. An item with choices is "
    "answered by the likeliest of its letters or, where it is asked by text, by the choice with the largest "
    "log-likelihood for each byte; any other one by the text that the model writes. The difference in accuracy is "
    "paired by item and tested by sign flips; p-values of the steered configs are corrected by Holm's method. Items "
    "that ended in an error are left out."
)


def battery_section(results: Results) -> Section | None:
    """Accuracy, difference, interval and p of every config; None without a battery."""
    found = results.battery
    if found is None:
        return None
    if not any(cost.answered or cost.errors for cost in found.costs):
        none = f"{counted(found.items, 'item')} beside the tasks, and no answer yet; add --resume to ask for them."
        return Section("battery", "Off-task cost", (Paragraph(none),), (Paragraph(none),))
    titles = ("right", "accuracy", "difference", "95 %, by item", "sign-flip", "after Holm", "errors")
    table, brief = (
        Table((*left(first), *right(*titles)), tuple(map(_row, found.costs))) for first in ("config", "off-task cost")
    )
    limits = tuple(map(Paragraph, _limits(found)))
    items = Paragraph(f"{counted(found.items, 'item')} beside the tasks.")
    return Section("battery", "Off-task cost", (items, table, Paragraph(_METHOD), *limits), (brief, *limits))


def _row(cost: Cost) -> Row:
    effect = cost.effect
    interval = effect.interval if effect is not None else None
    return (
        cost.config,
        f"{cost.right}/{cost.answered}",
        f"{cost.right / cost.answered:.3f}" if cost.answered else "–",
        "–" if effect is None else signed(effect.difference),
        "–" if interval is None else f"{signed(interval.low)} to {signed(interval.high)}",
        p_value(None if effect is None else effect.pvalue),
        p_value(None if effect is None else effect.holm),
        str(cost.errors),
    )


def _limits(found: BatteryResult) -> Iterator[str]:
    if found.missing:
        are, them = ("is", "it") if found.missing == 1 else ("are", "them")
        yield f"{counted(found.missing, 'answer')} {are} missing; add --resume to ask for {them}."
    base = next((cost for cost in found.costs if cost.config == Config.BASELINE), None)
    if base is None or not base.answered:
        return
    least = clopper_pearson(base.right, base.answered).low
    if base.right / base.answered < LOW or least <= base.guessing:
        guessed = f", where guessing gives {base.guessing:.3f}" if base.guessing else ""
        yield (
            f"The baseline answers {base.right / base.answered:.3f} of the items right{guessed}: there is little "
            "ability here that a vector could cost, and no fall says little."
        )
