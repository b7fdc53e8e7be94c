"""A vector's effect ranked among those of its matched controls: directions of the same length, used at the same layer
and strength, that point elsewhere.

If the vector were one more such direction, its effect would be as likely to come first among the K + 1 as second or
last. So its rank is a p-value under any distribution of the effects: a Monte Carlo test [1]_ with p-values
(1 + b)/(1 + K) [2]_. For random and orthogonal controls that null is a direction drawn from the sphere (a frame of
orthogonal ones has the same law in any order), for shuffled ones labels that mean nothing. The unsteered baseline
cannot replace these controls: steering by a random vector of that length may do harm of its own.

References:
    .. [1] Barnard, Journal of the Royal Statistical Society B 1963, 25:294.
    .. [2] Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 2010, 9:39.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean
from typing import get_args

from capvec.records import Config, Outcome
from capvec.stats.effects import Arm, Metric, by_task, value_of

MATCHED_KINDS = ("random", "shuffled", "orthogonal")
_TIE = 1e-9
"""Means of equal counts differ in their last bits, and are ties."""


@dataclass(frozen=True)
class RankTest:
    """The rank of one value among those of its controls. Ties count against it."""

    as_high: int
    """Controls that are at least as high."""
    as_low: int
    as_far: int
    """Controls that are at least as far from zero, on either side."""
    p_higher: float
    """(1 + as_high) / (1 + K), for the claim that the vector raises the metric more than such directions do. The other
    two are for the opposite claim, and for the claim that it moves the metric further. None is below 1/(1 + K)."""
    p_lower: float
    p_two_sided: float


@dataclass(frozen=True)
class MatchedComparison:
    """One steered config against its matched controls of one kind, in one metric."""

    config: str
    kind: str
    """`random`, `shuffled` or `orthogonal`."""
    metric: Metric
    trials: int
    """(task, attempt) pairs of which the baseline, the config and all its controls have a valid trial. Nothing else is
    used, so that all are measured on the same pairs."""
    left_out: int
    """Pairs that some have a valid trial of and others do not."""
    effect: float
    """The config's mean less the baseline's, every task weighing the same: a share for `pass_rate`, else per run."""
    controls: dict[str, float] = field(default_factory=dict)
    """Config → effect."""
    rank: RankTest = field(kw_only=True)

    @property
    def smallest_p(self) -> float:
        """1/(1 + K): the smallest p-value that this many controls allow."""
        return 1 / (1 + len(self.controls))


def rank(value: float, controls: Sequence[float]) -> RankTest:
    """Rank a value among those of its controls.

    Raises:
        ValueError: no control.
    """
    if not controls:
        raise ValueError("a rank needs at least one control; received none")
    as_high = sum(control >= value - _TIE for control in controls)
    as_low = sum(control <= value + _TIE for control in controls)
    as_far = sum(abs(control) >= abs(value) - _TIE for control in controls)
    p_values = ((1 + count) / (1 + len(controls)) for count in (as_high, as_low, as_far))
    return RankTest(as_high, as_low, as_far, *p_values)


def compare_with_matched_controls(
    outcomes: Sequence[Outcome], configs: Sequence[Config], unrecorded: Collection[str] = ()
) -> tuple[MatchedComparison, ...]:
    """Compare every steered config with each kind of its controls, in every metric on record. Errors are excluded.

    A control without a valid trial was not measured and does not count. Where no (task, attempt) is shared there
    is nothing to compare.
    """
    valid: dict[str, dict[tuple[str, int], Outcome]] = {config.name: {} for config in configs}
    baseline = next(config.name for config in configs if config.kind == "baseline")
    metrics = [metric for metric in get_args(Metric) if metric not in unrecorded]
    for outcome in outcomes:
        if outcome.outcome != "error":
            valid[outcome.config][outcome.task, outcome.attempt] = outcome
    return tuple(
        comparison
        for config in configs
        if config.kind == "steered"
        for kind in MATCHED_KINDS
        for comparison in _compare(
            valid, (baseline, config.name), kind, matched_controls_of(config.name, kind, configs), metrics
        )
    )


def matched_controls_of(config: str, kind: str, configs: Iterable[Config]) -> tuple[str, ...]:
    """Names of the controls of one kind that are there for `config`."""
    return tuple(
        other.name
        for other in configs
        if other.control is not None and other.control.kind == kind and config in other.control.configs
    )


def _compare(
    valid: dict[str, dict[tuple[str, int], Outcome]],
    compared: tuple[str, str],
    kind: str,
    controls: Sequence[str],
    metrics: Sequence[Metric],
) -> Iterable[MatchedComparison]:
    measured = [name for name in controls if valid[name]]
    arms = [valid[name] for name in (*compared, *measured)]
    shared = set.intersection(*(set(arm) for arm in arms))
    if not measured or not shared:
        return
    left_out = len(set.union(*(set(arm) for arm in arms))) - len(shared)
    pairs = sorted(shared)  # sums in one order
    tasks = [by_task(arm[pair] for pair in pairs) for arm in arms]
    for metric in metrics:
        base, *others = (_mean_over_tasks(arm, metric) for arm in tasks)
        effect, *effects = (other - base for other in others)
        yield MatchedComparison(
            config=compared[1],
            kind=kind,
            metric=metric,
            trials=len(shared),
            left_out=left_out,
            effect=effect,
            controls=dict(zip(measured, effects, strict=True)),
            rank=rank(effect, effects),
        )


def _mean_over_tasks(arm: Arm, metric: Metric) -> float:
    return fmean(fmean(value_of(outcome, metric) for outcome in its) for its in arm.values())
