"""The mean reward: what the pass rate does not show of partial success. The verdict does not use it.

Rewards may have any scale. Means, differences and p-values are of exact numbers (`capvec.decimals`), whatever the
scale. An interval needs bounds: 0, or the least reward of the sweep if that is less, and 1, or the greatest if that is
more. Rewards of 0 and 1 have the numbers of the pass rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

from capvec.decimals import exact, exact_mean
from capvec.records import Interval, Outcome
from capvec.stats.effects import Effect, TaskMean, effect_by_task
from capvec.stats.intervals import wilson_of_mean
from capvec.stats.multiplicity import holm


@dataclass(frozen=True)
class NamedMean:
    """The mean of one named reward of a config."""

    n: int
    """Valid trials that have it."""
    mean: float


@dataclass(frozen=True)
class ConfigRewards:
    """The rewards of one config; errors have none."""

    config: str
    n: int
    """Valid trials."""
    mean: float | None
    """Over the valid trials; None, as is the next, without one."""
    interval: Interval | None
    """95 %, for the mean (`intervals.wilson_of_mean`)."""
    effect: Effect | None
    """On the mean reward, as `ConfigSummary.effect` is on the pass rate: by the sign-flip test over tasks, with an
    interval clustered by task, and after Holm over `Summary.comparisons`. It does not allow for interim analyses. None
    for the baseline, and where the two share no task."""
    named: Mapping[str, NamedMean] = field(default_factory=dict)
    """The mean of every reward by name, where verifiers wrote several; empty elsewhere."""


@dataclass(frozen=True)
class RewardSummary:
    """The rewards of a sweep that are more than 0 and 1."""

    partial: bool
    """Whether a reward that counts is neither 0 nor 1. Otherwise the mean reward is the pass rate."""
    low: float
    """The least reward of the sweep, or 0."""
    high: float
    """The greatest, or 1."""
    configs: tuple[ConfigRewards, ...]
    """In the plan's order."""


def summarise_rewards(
    groups: Mapping[str, Sequence[Outcome]],
    bases: Mapping[str, Sequence[Outcome]],
    baseline: str,
    comparisons: Sequence[str],
) -> RewardSummary | None:
    """Estimate and test the mean reward of each config against the baseline.

    Args:
        groups: config → its outcomes, errors included, in the plan's order.
        bases: config → the baseline's outcomes that it is compared with.
        baseline: the name of the baseline.
        comparisons: the configs that are corrected for each other. One without an effect counts with p = 1.

    Returns:
        None where every trial has one reward of 0 or 1, and where no outcome has a reward.
    """
    outcomes = [outcome for group in groups.values() for outcome in group]
    partial, several = are_partial(outcomes), any(len(outcome.rewards) > 1 for outcome in outcomes)
    if not (partial or several):
        return None
    rewards = valid_rewards(outcomes)
    bounds = _Bounds(min(0.0, *rewards), max(1.0, *rewards))
    rows = [_of_config(name, group, [] if name == baseline else bases[name], bounds) for name, group in groups.items()]
    known = {row.config: row.effect for row in rows}
    pvalues = [1.0 if (effect := known[name]) is None else effect.pvalue for name in comparisons]
    corrected = dict(zip(comparisons, holm(pvalues), strict=True))
    configs = tuple(
        replace(
            row,
            effect=replace(row.effect, holm=corrected.get(row.config)) if row.effect is not None else None,
            named=_named(groups[row.config]) if several else {},
        )
        for row in rows
    )
    return RewardSummary(partial, bounds.low, bounds.high, configs)


def valid_rewards(outcomes: Sequence[Outcome]) -> list[float]:
    """The rewards that count; errors have none."""
    return [one.reward for one in outcomes if one.outcome != "error" and one.reward is not None]


def are_partial(outcomes: Sequence[Outcome]) -> bool:
    """Whether a reward is neither 0 nor 1, so that the mean reward is not the pass rate."""
    return not {*map(exact, {*valid_rewards(outcomes)})} <= {0, 1}


@dataclass(frozen=True)
class _Bounds:
    """Between which all rewards of the sweep are."""

    low: float
    high: float

    @property
    def span(self) -> float:
        return self.high - self.low

    def interval(self, mean: Fraction, n: int) -> Interval:
        """Of a mean of n rewards, by way of a scale from 0 to 1."""
        span = exact(self.high) - exact(self.low)
        found = wilson_of_mean(float((mean - exact(self.low)) / span), n)
        return Interval(self.low + self.span * found.low, self.low + self.span * found.high)


def _of_config(name: str, group: Sequence[Outcome], base: Sequence[Outcome], bounds: _Bounds) -> ConfigRewards:
    ours, theirs = _by_task(group), _by_task(base)
    values = [value for task in ours.values() for value in task]
    effect = effect_by_task(name, "reward", _means(ours), _means(theirs), bounds.span)
    if not values:
        return ConfigRewards(name, 0, None, None, effect)
    mean = exact_mean(values)
    return ConfigRewards(name, len(values), float(mean), bounds.interval(mean, len(values)), effect)


def _by_task(outcomes: Sequence[Outcome]) -> dict[str, list[float]]:
    tasks: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.outcome != "error" and outcome.reward is not None:
            tasks[outcome.task].append(outcome.reward)
    return tasks


def _means(tasks: Mapping[str, Sequence[float]]) -> dict[str, TaskMean]:
    return {task: TaskMean(exact_mean(values), len(values)) for task, values in tasks.items()}


def _named(outcomes: Sequence[Outcome]) -> dict[str, NamedMean]:
    """Of valid trials; a trial without a name has no part in its mean."""
    values: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        for name, reward in outcome.rewards.items():
            values[name].append(reward)
    return {name: NamedMean(len(found), float(exact_mean(found))) for name, found in values.items()}
