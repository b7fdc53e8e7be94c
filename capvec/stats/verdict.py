"""The rule by which an effect gets its name. This text is the reference; `decide` is the rule.

The unit is the task, the measure the difference in pass rate between a config and the baseline, averaged over tasks.
Five names exist, and the first whose condition holds is given:

1. **improves**: the difference is above 0 and its p-value, by the sign-flip test over tasks and after Holm over the
   steered configs, is below the level (0.05). With `--sequential` the p-value allows for the interim analyses
   (`sequential`). Controls are not corrected: they get the same rule with their own p-value.
2. **harms**: the same with a difference below 0.
3. **changes format only**: parse_fail or no_cmd changed (p < level after Holm over all secondary comparisons), and the
   95 % interval of the difference, clustered by task, excludes effects beyond the margin (0.15, or what `--effect`
   says): X is not above it.
4. **no effect detected, and effects above X excluded**: X is not above the margin.
5. **underpowered: can detect only Y**: everything else. Effects beyond the margin are not excluded. Y is
   the least rise that this sweep detects with power 80 % (`power.minimum_detectable_effect` of the paired test with
   the number of tasks and attempts, the baseline's rate and the spread between tasks as they were observed, at level/m,
   the first step of Holm's rule with m configs). Where no rise can be detected, the words say so: six tasks, for
   example, give no p-value below 2/64, with any outcomes.

Beside *underpowered* the words say what holds of these tasks alone, if the exact Cochran–Mantel–Haenszel test rejects
at level/m: a loss of everything on six tasks is beyond doubt there, and still not known of others.

X is the end of the interval that is farther from zero, and never below 1 − 0.025^(1/T) with T tasks: a smaller share of
tasks like these may be lost whole, or won, and none of the T show it (`intervals.unseen_share`). So nothing is excluded
at a margin of 0.15 by fewer than 23 tasks, with however many attempts.

"Only", "no" and "excluded" are claims of absence: they need an interval that is narrow enough, never just a p-value
that is large (Altman and Bland, BMJ 1995, 311:485; equivalence by an interval as in Schuirmann, J Pharmacokin Biopharm
1987, 15:657, at 95 % instead of 90 %). So a config that changes the format in a sweep that is too small for a
verdict on solving is underpowered; its sentence describes the format change.

The intervals are not widened for the number of configs: each holds its own difference with 95 %. An interval and a
p-value of two tests may disagree at the border; *improves* and *harms* go by the p-value alone.

The sign-flip test takes the differences of tasks as symmetric about 0 under the null. They are where a config does
nothing, with any tasks, since its trials might then be the baseline's. Then any false "improves" comes with
probability level/2 at most: half of the rejections of a two-sided test fall on either side. They are not where effects
differ and only cancel on average in a lopsided way, with many tasks a little better and a few much worse: few tasks
with many attempts then show the many and miss the few, and "improves" is said too often.
`reports/statistics/SIMULATION.md` has the rates of both.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.effects import Effect
from capvec.stats.format_change import FormatChange
from capvec.stats.intervals import reach
from capvec.stats.mediation import Mediation
from capvec.stats.pairing import smallest_p
from capvec.stats.stratified import CmhResult
from capvec.text import counted, estimate, rounded_up

Name = Literal["improves", "harms", "changes format only", "no effect detected", "underpowered"]
LEVEL = 0.05
TEST = f"two-sided sign-flip test over tasks at {LEVEL:g}, after Holm over the steered configs"
"""The test that decides on *improves* and *harms*, as a preregistration names it."""


@dataclass(frozen=True)
class Detectable:
    """Minimum detectable effects at power 80 %; None where no effect of that sign is detected."""

    rise: float | None
    fall: float | None
    """Negative."""
    level: float
    """Of the first step of Holm's rule."""


@dataclass(frozen=True)
class Verdict:
    """The name of an effect, the sentence for it, and the numbers that decided."""

    name: Name
    words: str
    pvalue: float
    """The p-value that decided: after Holm for a compared config, uncorrected for a control."""
    excluded: float | None
    """X: pass-rate effects farther from zero are excluded (`intervals.reach`); None where X is above the margin."""
    detectable: Detectable
    equivalence_margin: float


def decide(
    effect: Effect,
    change: FormatChange | None,
    detectable: Detectable,
    *,
    mediation: Mediation | None = None,
    stratified: CmhResult | None = None,
    equivalence_margin: float = EQUIVALENCE_MARGIN,
    level: float = LEVEL,
) -> Verdict:
    """Apply the rule in this module's docstring.

    Args:
        effect: on the pass rate, with its interval; with `holm` for a compared config.
        change: whether parse_fail and no_cmd moved; None where they are not on record, so that no change is known.
        detectable: what the sweep can detect.
        mediation: for the words alone, as is the next.
        stratified: the test about these tasks only.
        equivalence_margin: a difference in pass rate that would matter.
        level: of the tests.

    Raises:
        ValueError: the effect is not on the pass rate.
    """
    if effect.interval is None:
        raise ValueError(
            f"an effect on {effect.metric} has no verdict; expected one on the pass rate, with its interval"
        )
    pvalue = effect.pvalue if effect.holm is None else effect.holm
    beyond = reach(effect.interval, effect.tasks)
    excluded = beyond if beyond <= equivalence_margin else None
    changed = None if change is None else change.description
    name = _name(effect, pvalue, excluded, changed, level)
    if name == "underpowered":
        asides = _asides(effect, changed, stratified, detectable.level, equivalence_margin)
        words = "; ".join([f"underpowered: {_detected(detectable, effect.tasks)}", measured(effect), *asides])
    else:
        words = _words(name, effect, excluded, changed, mediation)
    return Verdict(name, words, pvalue, excluded, detectable, equivalence_margin)


def _name(effect: Effect, pvalue: float, excluded: float | None, changed: str | None, level: float) -> Name:
    if pvalue < level and effect.difference != 0:
        return "improves" if effect.difference > 0 else "harms"
    if excluded is None:
        return "underpowered"
    return "no effect detected" if changed is None else "changes format only"


def _words(name: Name, effect: Effect, excluded: float | None, changed: str | None, mediation: Mediation | None) -> str:
    observed = measured(effect)
    if name in ("improves", "harms"):
        return f"{name}: {observed}" + (f"; {mediation.words}" if mediation is not None and changed is not None else "")
    assert excluded is not None  # else it is underpowered
    if name == "changes format only":
        limit = rounded_up(excluded)
        return f"changes format only: {changed}, and effects on solving above {limit} excluded; {observed}"
    return f"no effect detected, and effects above {rounded_up(excluded)} excluded: {observed}"


def _asides(
    effect: Effect, changed: str | None, stratified: CmhResult | None, level: float, equivalence_margin: float
) -> Iterator[str]:
    """Why a narrow interval is not enough, and what an underpowered sweep shows all the same."""
    if effect.interval is not None and max(-effect.interval.low, effect.interval.high) <= equivalence_margin:
        limit = f"effects of {equivalence_margin:g}"
        yield f"{effect.tasks} tasks are too few to exclude {limit} on others, however alike they are"
    if changed is not None:
        yield f"the format changed: {changed}"
    if stratified is not None and stratified.pvalue < level:
        way = "rose" if stratified.odds_ratio > 1 else "fell"
        yield f"on these tasks alone the pass rate {way} (exact CMH p = {stratified.pvalue:.2g})"


def measured(effect: Effect) -> str:
    """`pass rate 0.35 → 0.60, +0.25 [+0.10, +0.40], p = 0.004 after Holm, 17 tasks`."""
    pvalue, after = (effect.pvalue, "") if effect.holm is None else (effect.holm, " after Holm")
    tasks = counted(effect.tasks, "task")
    return (
        f"pass rate {effect.baseline:.2f} → {effect.value:.2f}, {estimate(effect.difference, effect.interval)}, "
        f"p = {pvalue:.2g}{after}, {tasks}"
    )


def _detected(detectable: Detectable, tasks: int) -> str:
    """What can be detected, in words."""
    least, rise, fall = smallest_p(tasks), detectable.rise, detectable.fall
    if least >= detectable.level:
        smallest = f"with {counted(tasks, 'task')} the smallest p is {least:.2g}"
        return f"cannot detect any effect ({smallest}; {detectable.level:.2g} is required)"
    if rise is None and fall is None:
        return "cannot detect a change of any size with power 80 %"
    if rise is None or fall is None:
        found, missed = (f"a rise of {rise:.2f}", "fall") if fall is None else (f"a fall of {-fall:.2f}", "rise")
        return f"can detect only {found} or more with power 80 %, and no {missed} of any size"
    return f"can detect only a rise of {rise:.2f} or a fall of {-fall:.2f} (or more) with power 80 %"
