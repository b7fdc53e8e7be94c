"""When a sweep is called underpowered. This text is the reference; `power_warning` is the rule.

A sweep is underpowered for an effect, a rise of the pass rate that would matter (`--effect`; the verdict's margin of
0.15 unless said otherwise), when the least rise that its paired test detects with power 80 % is above that effect, both
to two decimals, or when there is no such rise. The paired test is the one that decides the verdict: sign flips over
tasks, two-sided, at 0.05/m, the first step of Holm's rule with m steered configs. Controls are not counted, and a sweep
without a steered config is never called underpowered.

Before a sweep, the baseline's rate and how much tasks differ are assumed; in its report they are those observed, and
the attempts those of the arm that has fewer; the verdict's "can detect only" comes from the same. So a sweep may
be underpowered as planned and not as it came out, or the other way round. A config whose 95 % interval excludes the
effect was measured well enough in the end, and is not counted in the report. Nor is one that `--sequential`
stopped early: its interim analyses say what it was worth. Where only some configs are underpowered, as when the others
have more valid trials, the warning names them.

It is said of the sweep and not of an outcome. *improves* and *harms* keep their level in an underpowered sweep, though
what such a sweep finds is exaggerated on average (Button et al., Nature Reviews Neuroscience 2013, 14:365). What it
cannot do is to find nothing and mean it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.pairing import smallest_p
from capvec.stats.power import GOAL, SweepDesign, fewest_tasks, minimum_detectable_effect, power
from capvec.stats.summary import Summary, observed_design
from capvec.text import counted

Basis = Literal["assumed", "observed"]
_NO_CALL = "no config can be called better or worse"


@dataclass(frozen=True)
class PowerWarning:
    """What an underpowered sweep can detect, beside the effect that would matter."""

    design: SweepDesign
    effect: float
    """The rise that would matter."""
    mde: float | None
    """Minimum detectable effect: the least rise that is detected with power 80 %; None where there is none."""
    basis: Basis
    """Where the design's base rate and spread come from."""
    configs: tuple[str, ...] = ()
    """The configs that the warning is about; empty where it is about all of them."""
    less_affected: tuple[str, ...] = ()
    """Other underpowered configs, with a smaller minimum detectable effect."""
    mean_attempts: float | None = None
    """Those of each task as they were, of which the design has the whole number; None before a sweep."""
    observed_rate: float | None = None
    """The baseline's pass rate as it was; the design's is drawn towards one half (`power.observed_rate`)."""
    spread_known: bool = True
    """False: a spread was assumed beside the observed rate, where every task has one valid trial."""

    @property
    def too_few_tasks(self) -> bool:
        """Whether the tasks are so few that no p-value can reach the level."""
        return smallest_p(self.design.tasks) >= self.design.level

    @property
    def words(self) -> str:
        """The warning: what the sweep cannot see, and what it could."""
        what = "any change" if self.too_few_tasks else f"a rise of {self.effect:.2f}"
        whom = f" under {', '.join(self.configs)}" if self.configs else ""
        others = f" (and, less so, under {', '.join(self.less_affected)})" if self.less_affected else ""
        why = self._too_few_words() if self.too_few_tasks else self._mde_words()
        return f"Underpowered for {what} in the pass rate{whom}{others}: {why}"

    def _too_few_words(self) -> str:
        tasks, level = self.design.tasks, self.design.level
        # Once Holm's rule has rejected for another config, it asks less of these: hence "on its own".
        it, its = ("it", "its") if len(self.configs) == 1 else ("they", "their")
        cannot = f"{it} cannot be called better or worse on {its} own" if self.configs else _NO_CALL
        return (
            f"{counted(tasks, 'task')} give{'s' if tasks == 1 else ''} no p below {smallest_p(tasks):.2g}, and "
            f"{level:.2g} is needed, so {cannot}; it takes "
            f"at least {fewest_tasks(level)} tasks."
        )

    def _mde_words(self) -> str:
        design = self.design
        size = f"{counted(design.tasks, 'task')} with {self._attempts()} each"
        given = f"with {self._assumptions()}"
        could = "no rise of any size" if self.mde is None else f"only a rise of {self.mde:.2f} or more"
        if design.base_rate + self.effect >= 1:
            return f"{given} there is no room for such a rise, and {size} detect {could} with power 80 %."
        chance = f"{100 * power(design, self.effect):.0f} %"
        return f"{given}, {size} detect it with power {chance}, and {could} with power 80 %."

    def _attempts(self) -> str:
        """`2 attempts`, or how many they were on average where that is no whole number."""
        whole = counted(self.design.attempts, "attempt")
        mean = self.design.attempts if self.mean_attempts is None else self.mean_attempts
        return (
            whole
            if abs(mean - self.design.attempts) < 0.05
            else f"{mean:.1f} attempts (counted as {self.design.attempts})"
        )

    def _assumptions(self) -> str:
        design = self.design
        rate = design.base_rate if self.observed_rate is None else self.observed_rate
        given = "an assumed base rate" if self.basis == "assumed" else "the observed base rate"
        kind = "an assumed " if self.basis == "observed" and not self.spread_known else ""
        return f"{given} of {rate:.2f} and {kind}spread between tasks of {design.spread:g} (logit SD)"


@lru_cache(maxsize=256)
def power_warning(design: SweepDesign, effect: float, basis: Basis = "assumed") -> PowerWarning | None:
    """None for a sweep that is not underpowered by the rule above; `design` has the level of Holm's first step."""
    # One power, where a search takes ten.
    if design.base_rate + effect < 1 and power(design, effect) >= GOAL:
        return None
    least = minimum_detectable_effect(design)
    if least is not None and round(least, 2) <= round(effect, 2):
        return None
    return PowerWarning(design, effect, least, basis)


def observed_power_warning(summary: Summary, effect: float = EQUIVALENCE_MARGIN) -> PowerWarning | None:
    """Of a sweep that has run: of the steered config that could be seen least; None where none falls short."""
    compared = [
        row
        for row in summary.configs
        if row.config in summary.comparisons and row.effect is not None and row.verdict is not None
    ]
    designs = {row.config: observed_design(summary, row.effect) for row in compared if row.effect is not None}
    found = {
        row.config: short
        for row in compared
        if row.config not in summary.bases
        and row.verdict is not None
        and (row.verdict.excluded is None or row.verdict.excluded > effect)
        and (short := power_warning(designs[row.config], effect, "observed")) is not None
        # What was called was no case for "cannot be called": Holm's later steps ask less than its first.
        and not (short.too_few_tasks and row.verdict.name in ("improves", "harms"))
    }
    if not found:
        return None
    worst = max(found.values(), key=lambda one: (1.0 if one.mde is None else one.mde, one.too_few_tasks))
    alike = tuple(
        name for name, one in found.items() if (one.mde, one.too_few_tasks) == (worst.mde, worst.too_few_tasks)
    )
    everything = set(designs.values()) == {worst.design}
    return replace(
        worst,
        configs=() if everything else alike,
        less_affected=tuple(name for name in found if name not in alike),
        observed_rate=next(row.pass_rate for row in summary.configs if row.config == summary.baseline),
        spread_known=summary.spread is not None,
        mean_attempts=min(row.effect.attempts for row in compared if row.effect is not None and row.config in alike),
    )
