"""Did solving change, or only the format? The change in pass rate, split by what became of the replies."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from capvec.records import Outcome
from capvec.stats.effects import Arm
from capvec.text import signed

_DECIMALS = 12
"""What sums of shares agree to, in any order."""

Spoiled = Literal["clean", "parse_fail", "no_cmd"]
CATEGORIES: tuple[Spoiled, ...] = ("clean", "parse_fail", "no_cmd")


@dataclass(frozen=True)
class Category:
    """Trials of one category on both sides. Every task weighs the same, and so does every trial of a task."""

    name: Spoiled
    base_share: float
    """Of the baseline's trials; so is the next of the config's."""
    share: float
    base_rate: float | None
    """Pass rate within the category; None where the side has no such trial."""
    rate: float | None
    composition: float
    """What the pass rate changed because such trials became more or less common, at the mean of both sides' rates and
    against clean trials (0 for these themselves)."""
    within: float
    """What it changed because such trials pass more or less often, at the mean of both sides' shares."""


@dataclass(frozen=True)
class Mediation:
    """The terms add up to the difference exactly. They describe; none of them is tested.

    To twelve decimals: sums of equal shares in another order differ in their last bits, and 0.625 is not to be printed
    as 0.62 here and as 0.63 there.
    """

    difference: float
    """In pass rate, config minus baseline, over the tasks that both have valid trials of."""
    through_parse_fail: float
    """`composition` and `within` of the trials that parse failures spoiled."""
    through_no_cmd: float
    """The same of the trials that replies without a command spoiled."""
    remainder: float
    """`within` of clean trials: solving where every reply acted or said it was done."""
    categories: tuple[Category, ...]

    @property
    def without_clean(self) -> str | None:
        """What keeps the split from being identified: `the baseline has no trial`, and so on, in which every reply
        acted or said it was done. None where both sides have one. Without it, how clean trials of that side would pass
        is not known, and the terms are no more than the conventions of `decompose`.
        """
        clean = next(row for row in self.categories if row.name == "clean")
        missing = {"the baseline": clean.base_rate is None, "the config": clean.rate is None}
        sides = [side for side, is_missing in missing.items() if is_missing]
        return f"{' and '.join(sides)} {'has' if len(sides) == 1 else 'have'} no trial" if sides else None

    @property
    def words(self) -> str:
        """`+0.20 = +0.15 through parse_fail, +0.00 through no_cmd, +0.05 where every reply acted or said it was done`;
        where the split is not identified, that it is not.
        """
        if self.without_clean is not None:
            return (
                "how much of the change in pass rate runs through the format is not identified, since "
                f"{self.without_clean} in which every reply acted or said it was done"
            )
        terms = (self.difference, self.through_parse_fail, self.through_no_cmd, self.remainder)
        total, parse_fail, no_cmd, rest = map(signed, terms)
        return (
            f"{total} = {parse_fail} through parse_fail, {no_cmd} through no_cmd, {rest} where every reply acted or "
            "said it was done"
        )


def spoiled_by(outcome: Outcome) -> Spoiled:
    """What spoiled a trial's replies: the more frequent of the two faults, parse failures where they are equal."""
    if outcome.parse_fail == outcome.no_cmd == 0:
        return "clean"
    return "parse_fail" if outcome.parse_fail >= outcome.no_cmd else "no_cmd"


def decompose(ours: Arm, theirs: Arm) -> Mediation | None:
    """Kitagawa's decomposition of a difference of rates (JASA 1955, 50:1168; Oaxaca's and Blinder's with dummies).

    Trials fall into three categories g by `spoiled_by`. With shares w_g and pass rates p_g, bars for the mean of both
    sides, and Σ Δw_g = 0,

        Δp = Σ_g Δw_g·(p̄_g − p̄_clean) + Σ_g w̄_g·Δp_g.

    The first sum is composition, the second the rates within. A side without a trial of a category takes the other
    side's rate there, so that all of it is composition; where neither side has a clean trial, p̄_clean is the mean of
    both sides' pass rates.

    Args:
        ours: the valid trials of the config.
        theirs: those of the baseline.

    Returns:
        None where they share no task.
    """
    shared = [task for task in ours if task in theirs]
    if not shared:
        return None
    share, solved = _weigh([ours[task] for task in shared])
    base_share, base_solved = _weigh([theirs[task] for task in shared])
    rates = {name: _rates(share[name], solved[name], base_share[name], base_solved[name]) for name in CATEGORIES}
    difference = sum(solved.values()) - sum(base_solved.values())
    clean = _middle(*rates["clean"])
    if clean is None:
        clean = (sum(solved.values()) + sum(base_solved.values())) / 2
    categories = tuple(_category(name, base_share[name], share[name], *rates[name], clean) for name in CATEGORIES)
    within_clean, parse_fail, no_cmd = (row.within + row.composition for row in categories)
    terms = [round(term, _DECIMALS) for term in (difference, parse_fail, no_cmd, within_clean)]
    return Mediation(terms[0], terms[1], terms[2], terms[3], categories)


def _weigh(tasks: Sequence[Sequence[Outcome]]) -> tuple[Counter[Spoiled], Counter[Spoiled]]:
    """Share of trials in each category, and of trials that are in it and solved."""
    share: Counter[Spoiled] = Counter()
    solved: Counter[Spoiled] = Counter()
    for group in tasks:
        weight = 1 / (len(tasks) * len(group))
        for outcome in group:
            category = spoiled_by(outcome)
            share[category] += weight  # type: ignore[assignment]
            solved[category] += weight * (outcome.outcome == "solved")  # type: ignore[assignment]
    return share, solved


def _rates(share: float, solved: float, base_share: float, base_solved: float) -> tuple[float | None, float | None]:
    return base_solved / base_share if base_share else None, solved / share if share else None


def _middle(base_rate: float | None, rate: float | None) -> float | None:
    """The mean of both; the only one, where there is but one."""
    known = [value for value in (base_rate, rate) if value is not None]
    return sum(known) / len(known) if known else None


def _category(
    name: Spoiled, base_share: float, share: float, base_rate: float | None, rate: float | None, clean: float
) -> Category:
    middle = _middle(base_rate, rate)
    composition = 0.0 if middle is None or name == "clean" else (share - base_share) * (middle - clean)
    change = 0.0 if base_rate is None or rate is None else rate - base_rate
    return Category(name, base_share, share, base_rate, rate, composition, (share + base_share) / 2 * change)
