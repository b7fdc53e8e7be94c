"""Did the format of the replies change, and did solving change with it?"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from capvec.stats.effects import Effect

Move = Literal["up", "down", "flat"]
LEVEL = 0.05
_SOLVING: Mapping[Move, str] = {"up": "solving rose", "down": "solving fell", "flat": "solving did not"}
_ARROWS: Mapping[Move, str] = {"up": "more", "down": "less"}


@dataclass(frozen=True)
class FormatChange:
    """Which way parse_fail, no_cmd and the pass rate moved against the baseline, and what to call that."""

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
        """Whether the format changed."""
        return self.description is not None

    @property
    def description(self) -> str | None:
        """`traded parse_fail for no_cmd`, `more parse_fail` and the like; None where neither moved."""
        return _description(self.parse_fail, self.no_cmd)


def format_change(passed: Effect, parse_fail: Effect, no_cmd: Effect) -> FormatChange:
    """Name the change from three effects: a move is one with p < 0.05, after Holm if it is corrected."""
    moves = _tested(parse_fail), _tested(no_cmd), _tested(passed)
    return FormatChange(*moves, tested=True, words=name_change(*moves))


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


def _move(change: float) -> Move:
    if change == 0:
        return "flat"
    return "up" if change > 0 else "down"
