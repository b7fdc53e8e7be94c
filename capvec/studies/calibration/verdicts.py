"""The five criteria of a calibration, judged from outcomes alone.

Effects are tested on the test split of the trained families, by the sign-flip test over tasks. Effects on families that
the agent was never trained on are reported too, and count only where a rule below says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import scipy

from capvec.records import Outcome
from capvec.results.zero_control import Comparison, all_the_same
from capvec.stats.effects import Effect, Metric, paired_effect
from capvec.studies.calibration.configs import Arms
from capvec.text import signed

LEVEL = 0.01
"""The level at which the effect of a positive control must be detected."""
CONTROL_LEVEL = 0.05
"""At which a random control counts as detected, a loss on held-out families as harm, a rise of the format as skill."""
CONTROL_TAIL = 0.99
"""As many detected controls as Binomial(K, CONTROL_LEVEL) stays below with this probability are no more than chance."""
FORMAT_METRICS: tuple[Metric, ...] = ("parse_fail", "no_cmd")


@dataclass(frozen=True)
class SplitOutcomes:
    """The outcomes of each split."""

    test: Sequence[Outcome]
    """Of trained families that nothing was selected on."""
    held_out: Sequence[Outcome]
    """Of families that the agent was never trained on."""


@dataclass(frozen=True)
class Criterion:
    """One criterion: whether it is met, and the numbers."""

    key: str
    """`a` to `e`."""
    claim: str
    met: bool
    reason: str
    effects: tuple[Effect, ...] = field(default=())
    """On the test split."""
    held_out: tuple[Effect, ...] = field(default=())
    """On held-out families."""


def judge(measured: SplitOutcomes, arms: Arms, zero: Sequence[Comparison]) -> tuple[Criterion, ...]:
    """Judge all five criteria."""
    return (
        positive_control_raises(measured, arms.positive),
        negated_lowers(measured, arms.negated),
        controls_are_not_detected(measured, arms.randoms),
        zero_says_the_same(zero),
        format_is_no_skill(measured, arms.format),
    )


def positive_control_raises(measured: SplitOutcomes, config: str) -> Criterion:
    """(a) Met when the pass rate rises at p < LEVEL, and does not fall on held-out families at p < CONTROL_LEVEL."""
    effect, other = _both(measured, config, "pass_rate")
    harmful = other is not None and other.difference < 0 and other.pvalue < CONTROL_LEVEL
    met = effect is not None and effect.difference > 0 and effect.pvalue < LEVEL and not harmful
    reason = _in_words(effect, LEVEL) + "; held out: " + _in_words(other) + (", which is harm" if harmful else "")
    return Criterion("a", f"{config} raises the pass rate", met, reason, _listed(effect), _listed(other))


def negated_lowers(measured: SplitOutcomes, config: str) -> Criterion:
    """(b) Met when the pass rate falls at p < LEVEL."""
    effect, other = _both(measured, config, "pass_rate")
    met = effect is not None and effect.difference < 0 and effect.pvalue < LEVEL
    reason = f"{_in_words(effect, LEVEL)}; held out: {_in_words(other)}"
    return Criterion("b", f"{config} lowers the pass rate", met, reason, _listed(effect), _listed(other))


def controls_are_not_detected(measured: SplitOutcomes, configs: Sequence[str]) -> Criterion:
    """(c) Met when every control was measured and no more of them are detected than chance explains (two-sided)."""
    pairs = [_both(measured, config, "pass_rate") for config in configs]
    effects = tuple(effect for effect, _ in pairs if effect is not None)
    detected = [effect for effect in effects if effect.pvalue < CONTROL_LEVEL]
    allowed = int(scipy.stats.binom.ppf(CONTROL_TAIL, len(configs), CONTROL_LEVEL)) if configs else 0
    met = 0 < len(configs) == len(effects) and len(detected) <= allowed
    each = ", ".join(f"{signed(effect.difference)} (p = {effect.pvalue:.2g})" for effect in effects)
    found = f"{len(detected)} of {len(configs)} detected at {CONTROL_LEVEL:g}, at most {allowed} allowed"
    reason = f"{found}: {each or 'none'}"
    if len(effects) < len(configs):
        reason += f"; {len(configs) - len(effects)} not measured"
    others = tuple(other for _, other in pairs if other is not None)
    return Criterion("c", "random controls are not detected", met, reason, effects, others)


def zero_says_the_same(zero: Sequence[Comparison]) -> Criterion:
    """(d) Met when replies were compared, and none differs in an identical conversation."""
    met, reason = all_the_same(zero)
    return Criterion("d", "α = 0 with the hook installed gives identical tokens", met, reason)


def format_is_no_skill(measured: SplitOutcomes, config: str) -> Criterion:
    """(e) Met when parse_fail or no_cmd moves at p < LEVEL, and the pass rate does not rise at p < CONTROL_LEVEL.

    Two metrics are looked at, so the smaller p counts twice (Bonferroni).
    """
    pairs = {metric: _both(measured, config, metric) for metric in (*FORMAT_METRICS, "pass_rate")}
    moves = [effect for metric in FORMAT_METRICS if (effect := pairs[metric][0]) is not None]
    skill = pairs["pass_rate"][0]
    moved = bool(moves) and len(FORMAT_METRICS) * min(effect.pvalue for effect in moves) < LEVEL
    capable = skill is not None and skill.difference > 0 and skill.pvalue < CONTROL_LEVEL
    reason = "; ".join(_in_words(effect, LEVEL / len(FORMAT_METRICS)) for effect in moves) or "not measured"
    reason += f"; {_in_words(skill)}" + (", which would be reported as a capability" if capable else "")
    held_out = [pair[1] for pair in pairs.values()]
    return Criterion(
        "e",
        f"{config} moves the format and is no capability",
        moved and not capable,
        reason,
        tuple(pair[0] for pair in pairs.values() if pair[0] is not None),
        tuple(effect for effect in held_out if effect is not None),
    )


def _both(measured: SplitOutcomes, config: str, metric: Metric) -> tuple[Effect | None, Effect | None]:
    """The effect on the test split and on held-out families."""
    return paired_effect(measured.test, config, metric), paired_effect(measured.held_out, config, metric)


def _listed(effect: Effect | None) -> tuple[Effect, ...]:
    return () if effect is None else (effect,)


def _in_words(effect: Effect | None, level: float | None = None) -> str:
    """`pass_rate 0.52 → 0.94, +0.42, p = 0.0001, 18 tasks`; and whether so few tasks could have reached `level`."""
    if effect is None:
        return "not measured"
    text = (
        f"{effect.metric} {effect.baseline:.2f} → {effect.value:.2f}, {signed(effect.difference)}, "
        f"p = {effect.pvalue:.2g}, {effect.tasks} tasks"
    )
    # All differences of one sign: two of the 2^n sign patterns are as far out.
    if level is not None and 2.0 ** (1 - effect.tasks) >= level:
        text += f" (too few: the least p is {2.0 ** (1 - effect.tasks):.2g})"
    return text
