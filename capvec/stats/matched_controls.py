"""A vector's effect against that of its twins: directions as long as it, at the same layer and strength, that point
elsewhere.

If the vector were one more such direction, its effect would be as likely to come first among the K + 1 as second or
last, so its rank is a p-value whatever the distribution of the effects is (a Monte Carlo test: Barnard 1963, JRSS B
25:294; (1 + b)/(1 + K): Phipson and Smyth 2010, SAGMB 9:39). For random and orthogonal twins that null is a direction
drawn from the sphere (a frame of orthogonal ones has the same law in any order), for shuffled ones labels that mean
nothing. No push at all is the wrong yardstick for a push: random
ones of that length may do harm of their own, and against these the baseline says nothing.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import get_args

from capvec.records import Config, Outcome
from capvec.stats.effects import Metric, value_of

MATCHED_KINDS = ("random", "shuffled", "orthogonal")
_TIE = 1e-9
"""Means of equal counts differ in their last bits, and are ties."""


@dataclass(frozen=True)
class RankTest:
    """Where one value stands among its twins' values. Ties count against it."""

    as_high: int
    """Twins that are at least as high."""
    as_low: int
    as_far: int
    """Twins that are at least as far from zero, on either side."""
    p_higher: float
    """(1 + as_high) / (1 + K): for the claim that the vector raises it more than a push of that length does. The other
    two are for the opposite claim, and for the one that it moves it further, up or down. None is below 1/(1 + K)."""
    p_lower: float
    p_two_sided: float


@dataclass(frozen=True)
class MatchedComparison:
    """One steered config against its twins of one kind, in one metric."""

    config: str
    kind: str
    """`random`, `shuffled` or `orthogonal`."""
    metric: Metric
    trials: int
    """(task, attempt) pairs of which the baseline, the config and all the twins have a valid trial; nothing else is
    used, so that all are measured on the same."""
    left_out: int
    """Pairs that some have a valid trial of and others do not."""
    effect: float
    """The config's mean less the baseline's, every task weighing the same: a share for `pass_rate`, else per run."""
    controls: dict[str, float] = field(default_factory=dict)
    """Config → effect."""
    rank: RankTest = field(kw_only=True)

    @property
    def smallest_p(self) -> float:
        """1/(1 + K): what no p-value here can be below, whatever the vector does."""
        return 1 / (1 + len(self.controls))


def rank(value: float, twins: Sequence[float]) -> RankTest:
    """RankTest a value among its twins' values.

    Raises:
        ValueError: no twin.
    """
    if not twins:
        raise ValueError("a rank needs at least one twin")
    as_high = sum(twin >= value - _TIE for twin in twins)
    as_low = sum(twin <= value + _TIE for twin in twins)
    as_far = sum(abs(twin) >= abs(value) - _TIE for twin in twins)
    p_values = ((1 + count) / (1 + len(twins)) for count in (as_high, as_low, as_far))
    return RankTest(as_high, as_low, as_far, *p_values)


def compare_with_matched_controls(
    outcomes: Sequence[Outcome], configs: Sequence[Config]
) -> tuple[MatchedComparison, ...]:
    """Every steered config with every kind of twin it has, in every metric; errors of the instrument are left out.

    A twin without a valid trial was not measured, and does not count as one. Where no (task, attempt) is shared there
    is nothing to compare.

    Args:
        outcomes: of all configs.
        configs: the sweep's.
    """
    valid: dict[str, dict[tuple[str, int], Outcome]] = {config.name: {} for config in configs}
    for outcome in outcomes:
        if outcome.outcome != "error":
            valid[outcome.config][outcome.task, outcome.attempt] = outcome
    return tuple(
        comparison
        for config in configs
        if config.kind == "steered"
        for kind in MATCHED_KINDS
        for comparison in _compare(valid, config.name, kind, matched_controls_of(config.name, kind, configs))
    )


def matched_controls_of(config: str, kind: str, configs: Iterable[Config]) -> tuple[str, ...]:
    """Names of the controls of one kind that are there for `config`."""
    return tuple(
        other.name
        for other in configs
        if other.control is not None and other.control.kind == kind and config in other.control.configs
    )


def _compare(
    valid: dict[str, dict[tuple[str, int], Outcome]], config: str, kind: str, twins: Sequence[str]
) -> Iterable[MatchedComparison]:
    measured = [name for name in twins if valid[name]]
    arms = [valid[name] for name in (Config.BASELINE, config, *measured)]
    shared = set.intersection(*(set(arm) for arm in arms))
    if not measured or not shared:
        return
    left_out = len(set.union(*(set(arm) for arm in arms))) - len(shared)
    for metric in get_args(Metric):
        base, *others = (_mean_over_tasks({pair: value_of(arm[pair], metric) for pair in shared}) for arm in arms)
        effect, *effects = (other - base for other in others)
        yield MatchedComparison(
            config=config,
            kind=kind,
            metric=metric,
            trials=len(shared),
            left_out=left_out,
            effect=effect,
            controls=dict(zip(measured, effects, strict=True)),
            rank=rank(effect, effects),
        )


def _mean_over_tasks(values: Mapping[tuple[str, int], float]) -> float:
    tasks: defaultdict[str, list[float]] = defaultdict(list)
    for (task, _), value in sorted(values.items()):  # sums in one order, whatever the set's
        tasks[task].append(value)
    return fmean(fmean(its) for its in tasks.values())
