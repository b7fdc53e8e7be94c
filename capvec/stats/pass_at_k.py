"""pass@k: the chance that at least one of k attempts at a task solves it. The verdict does not use it.

Where n attempts at a task are on record and c of them solved it, 1 − C(n − c, k)/C(n, k) estimates its pass@k without
bias: it is the share of the choices of k from the n attempts that hold a solved one (Chen et al., 2021,
arXiv:2107.03374, section 2.1). 1 − (1 − c/n)^k would be too low on average. A config's pass@k is the mean over tasks,
and the task is the unit of its interval: attempts at one task are no further evidence on other tasks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache
from math import comb

from capvec.records import Interval, Outcome
from capvec.stats.config_summary import counts_by_task, valid_trials
from capvec.stats.effects import by_task
from capvec.stats.intervals import clustered, wilson_of_mean

_Counts = tuple[int, int]
"""Solved trials of a task, and all valid ones."""


@dataclass(frozen=True)
class PassAtK:
    """pass@k of one config, over the tasks with at least k valid trials."""

    k: int
    tasks: int
    """With at least k valid trials of the config."""
    estimate: float
    """Mean over these tasks."""
    interval: Interval
    """95 %, for tasks like these: Wilson's for a mean of as many numbers as there are tasks
    (`intervals.wilson_of_mean`)."""
    shared: int = 0
    """Tasks with at least k valid trials of the config and of the baseline; 0 for the baseline itself."""
    difference: float | None = None
    """From the baseline's pass@k, the mean over the shared tasks; None, as is the next, without one."""
    difference_interval: Interval | None = None
    """95 %, clustered by task (`intervals.clustered`, with one pair a task)."""


@dataclass(frozen=True)
class ConfigPassAtK:
    """pass@k of one config for every k."""

    config: str
    by_k: tuple[PassAtK, ...]
    """From 1 to the largest number of valid trials that the config has of a task."""


@lru_cache(1 << 14)
def pass_at_k(n: int, solved: int, k: int) -> Fraction:
    """The unbiased estimate of pass@k from n attempts at one task.

    Args:
        n: attempts.
        solved: of them, 0 to n.
        k: 1 to n.

    Raises:
        ValueError: another number.
    """
    if not (1 <= k <= n and 0 <= solved <= n):
        raise ValueError(f"pass@{k} from {solved} of {n} attempts: expected k from 1 to n and solved from 0 to n")
    return 1 - Fraction(comb(n - solved, k), comb(n, k))


def summarise_pass_at_k(
    groups: Mapping[str, Sequence[Outcome]], bases: Mapping[str, Sequence[Outcome]], baseline: str
) -> tuple[ConfigPassAtK, ...]:
    """Estimate pass@k of each config and its difference from the baseline's.

    Args:
        groups: config → its outcomes, errors included, in the plan's order.
        bases: config → the baseline's outcomes that it is compared with.
        baseline: the name of the baseline.

    Returns:
        One for each config with a valid trial; empty where no config has two valid trials of a task.
    """
    counts = {name: counts_by_task(by_task(valid_trials(group))) for name, group in groups.items()}
    if all(n < 2 for tasks in counts.values() for _, n in tasks.values()):
        return ()
    found = []
    for name, tasks in counts.items():
        base = {} if name == baseline else counts_by_task(by_task(valid_trials(bases[name])))
        most = max((n for _, n in tasks.values()), default=0)
        if most:
            found.append(ConfigPassAtK(name, tuple(_at(k, tasks, base) for k in range(1, most + 1))))
    return tuple(found)


def _at(k: int, tasks: Mapping[str, _Counts], base: Mapping[str, _Counts]) -> PassAtK:
    known = {task: counts for task, counts in tasks.items() if counts[1] >= k}
    mean = float(_mean(k, known.values()))
    found = PassAtK(k, len(known), mean, wilson_of_mean(mean, len(known)))
    pairs = [(counts, base[task]) for task, counts in known.items() if task in base and base[task][1] >= k]
    if not pairs:
        return found
    ours, theirs = zip(*pairs, strict=True)
    difference = float(_mean(k, ours) - _mean(k, theirs))
    differences = {pair: float(_of(k, pair[0]) - _of(k, pair[1])) for pair in set(pairs)}
    spread = clustered([differences[pair] for pair in pairs], attempts=1)
    return PassAtK(k, found.tasks, found.estimate, found.interval, len(pairs), difference, spread)


def _mean(k: int, counts: Collection[_Counts]) -> Fraction:
    """Over tasks, of which many have the same counts."""
    return sum((times * _of(k, one) for one, times in Counter(counts).items()), Fraction()) / len(counts)


def _of(k: int, counts: _Counts) -> Fraction:
    solved, n = counts
    return pass_at_k(n, solved, k)
