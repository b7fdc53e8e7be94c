"""The trade-off in words: what happened to the form of the replies, and to solving beside it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from capvec.stats.effects import Effect
from capvec.stats.pooled import fisher_exact
from capvec.stats.power import SweepDesign, minimum_detectable_effect

Move = Literal["up", "down", "flat"]
NOTICEABLE = 0.25
"""Replies per run by which a mean has to differ to be called a change, where nothing can be tested."""
LEVEL = 0.05
_SOLVING: Mapping[Move, str] = {"up": "solving rose", "down": "solving fell", "flat": "solving did not"}
_ARROWS: Mapping[Move, str] = {"up": "more", "down": "less"}


@dataclass(frozen=True)
class Totals:
    """What a published table says about one config."""

    solved: int
    n: int
    parse_fail: float | None = None
    """Per run, as is the next; None where the table does not say."""
    no_cmd: float | None = None


@dataclass(frozen=True)
class FormatChange:
    """Which way each of the three moved against the baseline, and what to call it."""

    parse_fail: Move
    no_cmd: Move
    pass_rate: Move
    tested: bool
    """False: from totals alone, where the moves of parse_fail and no_cmd are descriptive."""
    words: str

    @property
    def name(self) -> str:
        """`traded parse_fail for no_cmd: format changed, solving did not`, and the like: the words without numbers."""
        return name_change(self.parse_fail, self.no_cmd, self.pass_rate)

    @property
    def changed(self) -> bool:
        """Whether the form changed."""
        return self.description is not None

    @property
    def description(self) -> str | None:
        """`traded parse_fail for no_cmd`, `more parse_fail` and the like; None where neither moved."""
        return _description(self.parse_fail, self.no_cmd)


def format_change(passed: Effect, parse_fail: Effect, no_cmd: Effect) -> FormatChange:
    """From effects with the task as the unit: a move is one whose p-value, after Holm where there is one, is below
    0.05.
    """
    moves = _tested(parse_fail), _tested(no_cmd), _tested(passed)
    return FormatChange(*moves, tested=True, words=name_change(*moves))


def format_change_of_totals(config: Totals, base: Totals) -> FormatChange:
    """From a table's totals alone, as a study publishes them.

    Means without their spread cannot be tested: parse_fail and no_cmd moved when they differ by `NOTICEABLE`. The pass
    counts can: solving moved when Fisher's p < 0.05. The words say so, and where it did not move, what these counts
    could have shown.

    Raises:
        ValueError: counts that cannot be.
    """
    test = fisher_exact(config.solved, config.n, base.solved, base.n)
    rates = config.solved / config.n, base.solved / base.n
    passed: Move = _move(rates[0] - rates[1]) if test.pvalue < LEVEL else "flat"
    parse_fail, no_cmd = _noticed(config.parse_fail, base.parse_fail), _noticed(config.no_cmd, base.no_cmd)
    passes = f"pass {base.solved}/{base.n} → {config.solved}/{config.n}, Fisher p = {test.pvalue:.2g}"
    limits = [_visible(config, base)] if passed == "flat" else []
    if None in (config.parse_fail, config.no_cmd, base.parse_fail, base.no_cmd):
        solving = f"{_SOLVING[passed]}{' change' if passed == 'flat' else ''} ({passes})"
        words = "; ".join([solving, *limits])
    else:
        described = (
            f"{name_change(parse_fail, no_cmd, passed)} (parse_fail {base.parse_fail:.3g} → {config.parse_fail:.3g} "
            f"and no_cmd {base.no_cmd:.3g} → {config.no_cmd:.3g} per run; {passes}). Descriptive: totals carry no "
            f"spread between tasks, so only the pass counts are tested"
        )
        words = ", and ".join([described, *limits])
    return FormatChange(parse_fail, no_cmd, passed, False, f"{words}.")


def name_change(parse_fail: Move, no_cmd: Move, passed: Move) -> str:
    """The name of a combination: `traded parse_fail for no_cmd: format changed, solving did not`."""
    form = _description(parse_fail, no_cmd)
    solving = _SOLVING[passed]
    if form is None:
        return "neither format nor solving changed" if passed == "flat" else f"format did not change, {solving}"
    return f"{form}: format changed, {solving}" if passed == "flat" else f"{form}: format changed, and {solving}"


def _description(parse_fail: Move, no_cmd: Move) -> str | None:
    if (parse_fail, no_cmd) == ("down", "up"):
        return "traded parse_fail for no_cmd"
    if (parse_fail, no_cmd) == ("up", "down"):
        return "traded no_cmd for parse_fail"
    moved = {"parse_fail": parse_fail, "no_cmd": no_cmd}
    return " and ".join(f"{_ARROWS[move]} {metric}" for metric, move in moved.items() if move != "flat") or None


def _tested(effect: Effect) -> Move:
    pvalue = effect.pvalue if effect.holm is None else effect.holm
    return _move(effect.difference) if pvalue < LEVEL else "flat"


def _noticed(ours: float | None, theirs: float | None) -> Move:
    if ours is None or theirs is None or abs(ours - theirs) < NOTICEABLE:
        return "flat"
    return _move(ours - theirs)


def _move(change: float) -> Move:
    if change == 0:
        return "flat"
    return "up" if change > 0 else "down"


def _visible(config: Totals, base: Totals) -> str:
    """The least rise that Fisher's test finds with power 80 %, both arms as large as the smaller one."""
    n = min(config.n, base.n)
    rate = (base.solved + 0.5) / (base.n + 1)
    least = minimum_detectable_effect(SweepDesign(1, n, rate, spread=0.0), "pooled")
    if least is None:
        return f"{n} runs could have shown no rise of any size with power 80 %"
    return f"{n} runs could only have shown a rise of {least:.2f} or more with power 80 %"
