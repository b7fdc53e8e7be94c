"""The format change of a table that holds totals only, as a study publishes them.

Means without their spread cannot be tested: parse_fail and no_cmd count as moved if they differ by `NOTICEABLE`. Pass
counts can be tested: solving moved if Fisher's p < 0.05. If it did not, the words say what the counts could have
shown.
"""

from __future__ import annotations

from dataclasses import dataclass

from capvec.stats.format_change import LEVEL, FormatChange, Move, name_change
from capvec.stats.pooled import fisher_exact
from capvec.stats.power import SweepDesign, minimum_detectable_effect

NOTICEABLE = 0.25
"""Replies per run by which two means must differ to count as a change."""


@dataclass(frozen=True)
class Totals:
    """The totals of one config in a published table."""

    solved: int
    n: int
    parse_fail: float | None = None
    """Replies per run; None if the table does not give them."""
    no_cmd: float | None = None
    """Replies per run; None if the table does not give them."""


def format_change_of_totals(config: Totals, base: Totals) -> FormatChange:
    """The change from a baseline to a config.

    Raises:
        ValueError: the counts are impossible.
    """
    test = fisher_exact(config.solved, config.n, base.solved, base.n)
    rise = config.solved / config.n - base.solved / base.n
    passed: Move = _move(rise) if test.pvalue < LEVEL else "flat"
    parse_fail, no_cmd = _noticed(config.parse_fail, base.parse_fail), _noticed(config.no_cmd, base.no_cmd)
    passes = f"pass {base.solved}/{base.n} → {config.solved}/{config.n}, Fisher p = {test.pvalue:.2g}"
    limits = [_visible(config, base)] if passed == "flat" else []
    if None in (config.parse_fail, config.no_cmd, base.parse_fail, base.no_cmd):
        solving = {"up": "rose", "down": "fell", "flat": "did not change"}[passed]
        words = "; ".join([f"solving {solving} ({passes})", *limits])
    else:
        described = (
            f"{name_change(parse_fail, no_cmd, passed)} (parse_fail {base.parse_fail:.3g} → {config.parse_fail:.3g} "
            f"and no_cmd {base.no_cmd:.3g} → {config.no_cmd:.3g} per run; {passes}). Descriptive: totals carry no "
            f"spread between tasks, so only the pass counts are tested"
        )
        words = ", and ".join([described, *limits])
    return FormatChange(parse_fail, no_cmd, passed, False, f"{words}.")


def _noticed(ours: float | None, theirs: float | None) -> Move:
    if ours is None or theirs is None or abs(ours - theirs) < NOTICEABLE:
        return "flat"
    return _move(ours - theirs)


def _move(change: float) -> Move:
    if change == 0:
        return "flat"
    return "up" if change > 0 else "down"


def _visible(config: Totals, base: Totals) -> str:
    """The least rise that Fisher's test finds with power 80 %, with both arms as large as the smaller one."""
    n = min(config.n, base.n)
    rate = (base.solved + 0.5) / (base.n + 1)
    least = minimum_detectable_effect(SweepDesign(1, n, rate, spread=0.0), "pooled")
    if least is None:
        return f"{n} runs cannot detect a rise of any size with power 80 %"
    return f"{n} runs can detect only a rise of {least:.2f} or more with power 80 %"
