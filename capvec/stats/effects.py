"""One number for one effect: how far a config moves a metric from the baseline, with the task as the unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from capvec.records import Config, Interval, Outcome
from capvec.stats.intervals import clustered
from capvec.stats.pairing import sign_flip

Metric = Literal["pass_rate", "parse_fail", "no_cmd", "steps"]
AnyMetric = Metric | Literal["reward"]
SECONDARY: tuple[Metric, ...] = ("parse_fail", "no_cmd", "steps")

DECIMALS = 12
"""What means of the same trials agree to, in any order of summation."""


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
) -> Effect | None:
    """The effect from the values of both arms, with the task as the unit.

    Args:
        config: its name.
        metric: for `pass_rate` and `reward`, of which the effect has an interval, values from 0 to 1.
        ours: task → the value of each valid trial of the config, at least one.
        base: the same of the baseline.

    Returns:
        None where the two share no task.
    """
    shared = [task for task in ours if task in base]
    if not shared:
        return None
    values, bases = [_mean(ours[task]) for task in shared], [_mean(base[task]) for task in shared]
    differences = [_difference(value, other) for value, other in zip(values, bases, strict=True)]
    test = sign_flip(differences)
    pairs = _mean([2 / (1 / len(ours[task]) + 1 / len(base[task])) for task in shared])
    return Effect(
        config=config,
        metric=metric,
        tasks=len(shared),
        n=sum(len(ours[task]) for task in shared),
        baseline=round(_mean(bases), DECIMALS),
        value=round(_mean(values), DECIMALS),
        difference=round(test.statistic, DECIMALS),
        pvalue=test.pvalue,
        interval=clustered(differences, pairs) if metric in ("pass_rate", "reward") else None,
        attempts=1 / _mean([1 / min(len(ours[task]), len(base[task])) for task in shared]),
    )


def _difference(value: float, other: float) -> float:
    """Exactly 0 where rounding alone tells the two apart."""
    difference = value - other
    return difference if abs(difference) > 10**-DECIMALS else 0.0


def _by_task(outcomes: Sequence[Outcome], config: str, metric: Metric) -> dict[str, list[float]]:
    tasks: defaultdict[str, list[float]] = defaultdict(list)
    for outcome in outcomes:
        if outcome.config == config and outcome.outcome != "error":
            tasks[outcome.task].append(value_of(outcome, metric))
    return tasks


def value_of(outcome: Outcome, metric: Metric) -> float:
    """One trial's part in a metric."""
    if metric == "pass_rate":
        return float(outcome.outcome == "solved")
    return float({"parse_fail": outcome.parse_fail, "no_cmd": outcome.no_cmd, "steps": outcome.steps}[metric])


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
