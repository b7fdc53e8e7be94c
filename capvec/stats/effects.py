"""One number for one effect: how far a config moves a metric from the baseline, with the task as the unit."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from operator import attrgetter
from typing import Literal, NamedTuple

from capvec.decimals import exact, exact_mean
from capvec.records import Config, Interval, Outcome
from capvec.stats.intervals import clustered
from capvec.stats.pairing import sign_flip

Metric = Literal["pass_rate", "parse_fail", "no_cmd", "steps"]
AnyMetric = Metric | Literal["reward"]
Arm = Mapping[str, Sequence[Outcome]]
"""Task → the trials of one config, at least one."""
_VALUES: Mapping[Metric, Callable[[Outcome], int]] = {
    "pass_rate": lambda outcome: outcome.outcome == "solved",
    "parse_fail": attrgetter("parse_fail"),
    "no_cmd": attrgetter("no_cmd"),
    "steps": attrgetter("steps"),
}
"""One trial's part in each metric."""
SECONDARY: tuple[Metric, ...] = ("parse_fail", "no_cmd", "steps")


class TaskMean(NamedTuple):
    """Of one arm's trials of a task."""

    mean: Fraction
    n: int


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
    valid = [outcome for outcome in outcomes if outcome.outcome != "error"]
    ours, base = (by_task(one for one in valid if one.config == name) for name in (config, baseline))
    return effect_of_arms(config, metric, ours, base)


def by_task(outcomes: Iterable[Outcome]) -> dict[str, list[Outcome]]:
    """The outcomes of each task, tasks in the order of their first."""
    tasks: defaultdict[str, list[Outcome]] = defaultdict(list)
    for outcome in outcomes:
        tasks[outcome.task].append(outcome)
    return dict(tasks)


def effect_of_arms(config: str, metric: Metric, ours: Arm, base: Arm) -> Effect | None:
    """The effect from the valid trials of both arms, as `paired_effect` has it."""
    value = _VALUES[metric]
    return effect_by_task(config, metric, task_means(ours, value), task_means(base, value))


def task_means(arm: Arm, value: Callable[[Outcome], int]) -> dict[str, TaskMean]:
    """The mean of a count, or of a switch, over the trials of each task."""
    return {task: TaskMean(Fraction(sum(map(value, its)), len(its)), len(its)) for task, its in arm.items()}


def effect_by_task(
    config: str,
    metric: AnyMetric,
    ours: Mapping[str, TaskMean],
    base: Mapping[str, TaskMean],
    span: float = 1.0,
) -> Effect | None:
    """The effect from the means of both arms, with the task as the unit.

    Means and differences are exact (`capvec.decimals`), so that equal means are no difference, and small ones beside
    large ones are.

    Args:
        config: its name.
        metric: the effect has an interval for `pass_rate` and `reward`.
        ours: task → the mean over the valid trials of the config.
        base: the same of the baseline.
        span: the largest possible difference of two values, where there is an interval.

    Returns:
        None where the two share no task.
    """
    shared = [task for task in ours if task in base]
    if not shared:
        return None
    values, bases = ([arm[task].mean for task in shared] for arm in (ours, base))
    trials = [(ours[task].n, base[task].n) for task in shared]
    differences = [value - other for value, other in zip(values, bases, strict=True)]
    test = sign_flip(differences)
    return Effect(
        config=config,
        metric=metric,
        tasks=len(shared),
        n=sum(n for n, _ in trials),
        baseline=float(exact_mean(bases)),
        value=float(exact_mean(values)),
        difference=test.statistic,
        pvalue=test.pvalue,
        interval=_interval(differences, trials, span) if metric in ("pass_rate", "reward") else None,
        attempts=1 / _mean([1 / min(pair) for pair in trials]),
    )


def _interval(differences: Sequence[Fraction], trials: Sequence[tuple[int, int]], span: float) -> Interval:
    pairs = _mean([2 / (1 / ours + 1 / base) for ours, base in trials])
    found = clustered([float(difference / exact(span)) for difference in differences], pairs)
    return Interval(span * found.low, span * found.high)


def value_of(outcome: Outcome, metric: Metric) -> float:
    """One trial's part in a metric."""
    return float(_VALUES[metric](outcome))


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
