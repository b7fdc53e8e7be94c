"""One number for one effect: how far a config moves a metric from the baseline, with the task as the unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Literal

from capvec.decimals import exact, exact_mean
from capvec.records import Config, Interval, Outcome
from capvec.stats.intervals import clustered
from capvec.stats.pairing import sign_flip

Metric = Literal["pass_rate", "parse_fail", "no_cmd", "steps"]
AnyMetric = Metric | Literal["reward"]
_VALUES: Mapping[Metric, Callable[[Outcome], float]] = {
    "pass_rate": lambda outcome: outcome.outcome == "solved",
    "parse_fail": attrgetter("parse_fail"),
    "no_cmd": attrgetter("no_cmd"),
    "steps": attrgetter("steps"),
}
"""One trial's part in each metric."""
SECONDARY: tuple[Metric, ...] = ("parse_fail", "no_cmd", "steps")


@dataclass(frozen=True)
class Effect:
    """A config against the baseline on the tasks that both have valid trials of."""

    config: str
    metric: AnyMetric
    """`pass_rate`, a share; the others are per run. The reward's effects are in `stats.rewards`."""
    tasks: int
    n: int
    """Valid trials of the config on those tasks."""
    baseline: float
    """Mean over tasks of the task's mean; so are the next two."""
    value: float
    difference: float
    pvalue: float
    """Two-sided, by the sign-flip test over tasks. On the pass rate it allows for interim analyses (`--sequential`)."""
    interval: Interval | None = None
    """95 %, clustered by task (`intervals.clustered`); for the pass rate and the reward only."""
    holm: float | None = None
    """`pvalue` after Holm over the comparisons that the summary lists; None for a config that is not among them."""
    attempts: float = 1.0
    """Valid trials of a task in the arm that has fewer of them: the harmonic mean over the tasks, since the variance of
    a task's mean goes by 1/attempts."""


def paired_effect(
    outcomes: Sequence[Outcome], config: str, metric: Metric, baseline: str = Config.BASELINE
) -> Effect | None:
    """The effect of `config` on `metric`, with the task as the unit; errors are excluded.

    Returns:
        None where the two share no task with valid trials.
    """
    ours, base = _by_task(outcomes, config, metric), _by_task(outcomes, baseline, metric)
    return effect_by_task(config, metric, ours, base)


def effect_by_task(
    config: str,
    metric: AnyMetric,
    ours: Mapping[str, Sequence[float]],
    base: Mapping[str, Sequence[float]],
    span: float = 1.0,
) -> Effect | None:
    """The effect from the values of both arms, with the task as the unit.

    Means and differences are of exact numbers (`capvec.decimals`), so that equal means are no difference, and small
    ones beside large ones are.

    Args:
        config: its name.
        metric: the effect has an interval for `pass_rate` and `reward`.
        ours: task → the value of each valid trial of the config, at least one.
        base: the same of the baseline.
        span: the largest possible difference of two values, where there is an interval.

    Returns:
        None where the two share no task.
    """
    shared = [task for task in ours if task in base]
    if not shared:
        return None
    values, bases = ([exact_mean(arm[task]) for task in shared] for arm in (ours, base))
    differences = [value - other for value, other in zip(values, bases, strict=True)]
    test = sign_flip(differences)
    return Effect(
        config=config,
        metric=metric,
        tasks=len(shared),
        n=sum(len(ours[task]) for task in shared),
        baseline=float(exact_mean(bases)),
        value=float(exact_mean(values)),
        difference=test.statistic,
        pvalue=test.pvalue,
        interval=_interval(differences, [(len(ours[task]), len(base[task])) for task in shared], span)
        if metric in ("pass_rate", "reward")
        else None,
        attempts=1 / _mean([1 / min(len(ours[task]), len(base[task])) for task in shared]),
    )


def _interval(differences: Sequence[Fraction], trials: Sequence[tuple[int, int]], span: float) -> Interval:
    pairs = _mean([2 / (1 / ours + 1 / base) for ours, base in trials])
    found = clustered([float(difference / exact(span)) for difference in differences], pairs)
    return Interval(span * found.low, span * found.high)


def _by_task(outcomes: Sequence[Outcome], config: str, metric: Metric) -> dict[str, list[float]]:
    tasks: defaultdict[str, list[float]] = defaultdict(list)
    value = _VALUES[metric]
    for outcome in outcomes:
        if outcome.config == config and outcome.outcome != "error":
            tasks[outcome.task].append(float(value(outcome)))
    return tasks


def value_of(outcome: Outcome, metric: Metric) -> float:
    """One trial's part in a metric."""
    return float(_VALUES[metric](outcome))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
