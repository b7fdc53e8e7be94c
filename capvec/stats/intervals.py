"""Intervals for a proportion, a mean, and a difference that is measured task by task."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import scipy

from capvec.records import Interval


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """Wilson's score interval (Wilson, JASA 1927), by `scipy.stats.binomtest`.

    Args:
        successes: 0 to n.
        n: at least 1.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: n < 1, or successes outside 0 to n.
    """
    return _interval(successes, n, level, "wilson")


def wilson_of_mean(mean: float, n: int, level: float = 0.95) -> Interval:
    """Wilson's interval with a mean of numbers from 0 to 1 in the place of the share of successes.

    No such numbers spread more around their mean than zeros and ones, so it covers at least as often as it does for a
    share. Of zeros and ones it is `wilson`.

    Args:
        mean: 0 to 1.
        n: how many numbers, at least 1.
        level: of confidence, between 0 and 1.

    Raises:
        ValueError: n < 1, or a mean outside 0 to 1.
    """
    if n < 1 or not 0 <= mean <= 1:
        raise ValueError(f"a mean of {mean:g} over {n} numbers: expected n ≥ 1 and a mean from 0 to 1")
    z = float(scipy.stats.norm.ppf((1 + level) / 2))
    centre = mean + z * z / (2 * n)
    half = z * math.sqrt(mean * (1 - mean) / n + (z / (2 * n)) ** 2)
    whole = 1 + z * z / n
    return Interval(max(0.0, (centre - half) / whole), min(1.0, (centre + half) / whole))


def clopper_pearson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The exact interval of Clopper and Pearson (Biometrika 1934): covers at least `level` at any proportion.

    Raises:
        ValueError: n < 1, or successes outside 0 to n.
    """
    return _interval(successes, n, level, "exact")


def clustered(differences: Sequence[float], attempts: float, level: float = 0.95) -> Interval:
    """Interval for the mean difference of pass rates over tasks like these: t with Agresti and Min's pseudo-pairs, and
    room for what no task showed.

    The task is the cluster: only the spread of the task-wise differences counts, so trials of one task may be alike
    for any reason. A plain t interval has width zero where no task moved, however few there were. Agresti and Min
    (Statistics in Medicine 2005, 24:729) mend that for matched pairs by adding two pairs, spread evenly over the four
    outcomes: to the mean they add nothing, to the sum of squares 2·½. With k attempts a task's difference is a mean
    over k pairs, so here two tasks with the mean square 1/(2k) are added, and Student's t with (tasks − 1) degrees of
    freedom takes the place of the normal.

    That interval shrinks with the attempts, and where most tasks stand still it must not: more attempts on the same few
    tasks say no more of tasks that none of them resembles. Two things mend it, both weighted by the share s of tasks
    whose difference is exactly 0. Such a task counts as one pair, so 1/k becomes s + (1 − s)/k. And a share p of tasks
    like these may do what none did (`unseen_share`) and move all the way, up or down; so far as tasks stood still,
    nothing else allows for that, and the interval is made to reach from (1 − ps)·d − ps to (1 − ps)·d + ps, with d the
    mean difference. Where no task moved it is then that of the rule of three. The weights are ours;
    `reports/statistics/SIMULATION.md` has the coverage beside that of the plain t interval and of the inverted
    sign-flip test.

    Args:
        differences: pass rate of the config minus the baseline's, one for each task.
        attempts: pairs of trials for each task, on average.
        level: of confidence, between 0 and 1.

    Returns:
        The whole range from −1 to 1 for a single task: it says nothing about others.

    Raises:
        ValueError: no task, or fewer than one attempt.
    """
    tasks = len(differences)
    if tasks < 1 or attempts < 1:
        raise ValueError(f"{tasks} tasks, {attempts:g} attempts: expected at least one of each")
    if tasks == 1:
        return Interval(-1.0, 1.0)
    centre = math.fsum(differences) / (tasks + 2)
    still = sum(value == 0 for value in differences) / tasks
    squares = math.fsum(value * value for value in differences) + still + (1 - still) / attempts
    error = math.sqrt((squares / (tasks + 2) - centre**2) / (tasks + 1))
    half = _t_quantile((1 + level) / 2, tasks - 1) * error
    unseen = still * unseen_share(tasks, level)
    rest = (1 - unseen) * math.fsum(differences) / tasks
    return Interval(max(-1.0, min(centre - half, rest - unseen)), min(1.0, max(centre + half, rest + unseen)))


def unseen_share(tasks: int, level: float = 0.95) -> float:
    """The greatest share of tasks like these that may do what none of these did: 1 − ((1 − level)/2)^(1/tasks).

    The upper end of Clopper and Pearson's interval for 0 of `tasks`; the rule of three, about 3.7 over the tasks at a
    two-sided 95 % (Hanley and Lippman-Hand, JAMA 1983, 249:1743).
    """
    return float(1 - ((1 - level) / 2) ** (1 / tasks))


def reach(interval: Interval, tasks: int) -> float:
    """X: effects farther from zero are excluded by a 95 % interval of a difference, measured on so many tasks.

    The end of the interval that is farther from zero, and never below `unseen_share`: a share of tasks like these that
    none of them shows may be lost, or won, whole.
    """
    return max(abs(interval.low), abs(interval.high), unseen_share(tasks))


@lru_cache(maxsize=256)
def _t_quantile(probability: float, freedom: int) -> float:
    """A summary and a simulation ask for few of them, again and again."""
    return float(scipy.stats.t.ppf(probability, freedom))


def _interval(successes: int, n: int, level: float, method: str) -> Interval:
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"{successes} successes in {n} trials: expected n ≥ 1 and successes from 0 to n")
    found = scipy.stats.binomtest(successes, n).proportion_ci(level, method)
    return Interval(float(found.low), float(found.high))
