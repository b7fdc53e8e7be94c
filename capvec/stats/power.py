"""What a sweep can see: power, the least effect it detects, and how much more an effect would need.

Tasks differ: the logit of a task's pass rate is normal with standard deviation `spread`. An effect moves the logit of
every task by the same amount, chosen so that the pass rate over all such tasks moves by the effect that is asked for
(a logistic-normal model, as in Agresti, Categorical Data Analysis, 2nd ed., §12.2). Trials of a task are independent
given its rates. `task_spread` lets the effect differ from task to task: both arms of a task then get a normal
deviation of their own, with that standard deviation, which leaves no difference where the effect is zero. A plan takes
the effect as alike on all tasks (0); where it is not, the paired test's power is less, and
`reports/statistics/SIMULATION.md` says by how much.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import count
from typing import Any, Literal

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.stats.assumed import UNKNOWN_SPREAD
from capvec.stats.pairing import sign_flip_pvalues, smallest_p
from capvec.stats.pooled import fisher_table

Test = Literal["paired", "pooled"]
"""`paired`: the sign-flip test over tasks. `pooled`: Fisher's exact test."""
GOAL = 0.8
DRAWS = 2000
"""Simulated sweeps behind a power of the paired test: its standard error at 80 % is 0.009."""
_SEED = 20261125
MOST = 512
"""Tasks or attempts beyond which `needed_tasks` and `needed_attempts` stop looking."""
MOST_TRIALS: dict[Test, int] = {"paired": 20_000, "pooled": 1_000}
"""The same for the trials of a config, beyond which a power takes more than a few seconds."""
_NODES: NDArray[np.float64]
_NODES, _weights = np.polynomial.hermite_e.hermegauss(61)
_WEIGHTS: NDArray[np.float64] = _weights / _weights.sum()


@dataclass(frozen=True)
class SweepDesign:
    """What decides a sweep's power besides the effect."""

    tasks: int
    attempts: int
    """Of each task under each config."""
    base_rate: float
    """The baseline's pass rate over tasks like these, between 0 and 1."""
    spread: float = UNKNOWN_SPREAD
    """Standard deviation between tasks of the logit of the pass rate."""
    task_spread: float = 0.0
    """Standard deviation of each arm's own deviation from a task's logit."""
    level: float = 0.05
    """Two-sided level of the test; under Holm's rule with m configs, the first step's 0.05/m."""

    def __post_init__(self) -> None:
        if self.tasks < 1 or self.attempts < 1:
            raise ValueError(f"{self.tasks} tasks, {self.attempts} attempts: expected at least one of each")
        if not (0 < self.base_rate < 1 and 0 < self.level < 1 and self.spread >= 0 and self.task_spread >= 0):
            raise ValueError(
                f"base rate {self.base_rate:g}, level {self.level:g}, spreads {self.spread:g} and "
                f"{self.task_spread:g}: expected rate and level between 0 and 1, spreads of at least 0"
            )


# ------------------------------------------------------------------------------------------------ power


def power(design: SweepDesign, effect: float, test: Test = "paired") -> float:
    """The probability that the test rejects, either side, when the pass rate moves by `effect`.

    The paired test: `DRAWS` simulated sweeps from a fixed seed, each with its exact p-value. The pooled test: exact,
    from the distribution of both arms' totals.

    Raises:
        ValueError: the rate would leave the open interval from 0 to 1.
    """
    rate = design.base_rate + effect
    if not 0 < rate < 1:
        raise ValueError(f"a base rate of {design.base_rate:g} cannot move by {effect:+g}: it would be {rate:g}")
    return _paired_power(design, rate) if test == "paired" else _pooled_power(design, rate)


def _paired_power(design: SweepDesign, rate: float) -> float:
    if smallest_p(design.tasks) >= design.level:
        return 0.0
    return float((_simulated_pvalues(replace(design, level=0.05), rate) < design.level).mean())


@lru_cache(maxsize=256)
def _simulated_pvalues(design: SweepDesign, rate: float) -> NDArray[np.float64]:
    """The same for every level: Holm's first step asks for another one than a single comparison does."""
    tasks, base, state = _simulated_base(design)
    generator = np.random.default_rng(_SEED)
    generator.bit_generator.state = state
    return sign_flip_pvalues(_arm(design, rate, tasks, generator) - base)


@lru_cache(maxsize=2)
def _simulated_base(design: SweepDesign) -> tuple[NDArray[np.float64], NDArray[np.int64], Any]:
    """The tasks' logits, the baseline's solved trials and the generator after them, whatever the effect."""
    generator = np.random.default_rng(_SEED)
    tasks = _tasks(design, generator, DRAWS)
    return tasks, _arm(design, design.base_rate, tasks, generator), generator.bit_generator.state


def simulated_solved(
    design: SweepDesign, rates: Sequence[float], generator: np.random.Generator, sweeps: int = DRAWS
) -> NDArray[np.int64]:
    """Solved trials of each task, in sweeps drawn from the model: int [arms, sweeps, tasks].

    The random numbers do not depend on `rates`, so effects are compared on the same sweeps.
    """
    tasks = _tasks(design, generator, sweeps)
    return np.stack([_arm(design, rate, tasks, generator) for rate in rates])


def _tasks(design: SweepDesign, generator: np.random.Generator, sweeps: int) -> NDArray[np.float64]:
    return design.spread * generator.standard_normal((sweeps, design.tasks))


def _arm(
    design: SweepDesign, rate: float, tasks: NDArray[np.float64], generator: np.random.Generator
) -> NDArray[np.int64]:
    logits = _logits(rate, design) + tasks
    if design.task_spread:
        logits += design.task_spread * generator.standard_normal(tasks.shape)
    solved: NDArray[np.int64] = generator.binomial(design.attempts, scipy.special.expit(logits))
    return solved


def _logits(rate: float, design: SweepDesign) -> float:
    return mean_logit(rate, math.hypot(design.spread, design.task_spread))


@lru_cache(maxsize=4096)
def mean_logit(rate: float, spread: float) -> float:
    """The mean of a normal logit with standard deviation `spread` whose pass rate is `rate` on average."""
    reach = 10.0 + 6.0 * spread + abs(float(scipy.special.logit(rate)))
    found: float = scipy.optimize.brentq(lambda mean: _rates(mean, spread) @ _WEIGHTS - rate, -reach, reach, xtol=1e-10)
    return found


def _rates(mean: float, spread: float) -> NDArray[np.float64]:
    rates: NDArray[np.float64] = scipy.special.expit(mean + spread * _NODES)
    return rates


def _pooled_power(design: SweepDesign, rate: float) -> float:
    """From the joint distribution of a task's two counts, folded with itself once for each task."""
    attempts, total = design.attempts, design.tasks * design.attempts
    counts = np.arange(attempts + 1)
    arms = []
    for mean in (_logits(design.base_rate, design), _logits(rate, design)):
        task = mean + design.spread * _NODES
        own = scipy.special.expit(task[:, None] + design.task_spread * _NODES)  # [tasks' nodes, deviations' nodes]
        arms.append(np.tensordot(scipy.stats.binom.pmf(counts, attempts, own[..., None]), _WEIGHTS, axes=(1, 0)))
    joint = np.einsum("t,tb,tc->bc", _WEIGHTS, *arms)
    # Every task adds one pair of counts: in the transform, the power of one task's.
    folded = np.fft.irfft2(np.fft.rfft2(joint, (total + 1, total + 1)) ** design.tasks, (total + 1, total + 1))
    return float(folded[fisher_table(total, total) < design.level].sum().clip(0.0, 1.0))


# ------------------------------------------------------------------------------------------------ and its inverses


def minimum_detectable_effect(
    design: SweepDesign, test: Test = "paired", *, falls: bool = False, goal: float = GOAL
) -> float | None:
    """The least rise of the pass rate that is detected with probability `goal`, to 0.005; a fall, as a negative number.

    None where no effect would be: too few tasks for the test's p-value to reach the level, or no room above the base
    rate.
    """
    return _detectable(design, test, falls, goal)


@lru_cache(maxsize=256)
def _detectable(design: SweepDesign, test: Test, falls: bool, goal: float) -> float | None:
    sign = -1 if falls else 1
    room = design.base_rate if falls else 1 - design.base_rate
    low, high = 0.0, room * 0.999
    if power(design, sign * high, test) < goal:
        return None
    while high - low > 0.005:
        middle = (low + high) / 2
        low, high = (low, middle) if power(design, sign * middle, test) >= goal else (middle, high)
    return sign * high


def needed_attempts(design: SweepDesign, effect: float, test: Test = "paired", goal: float = GOAL) -> int | None:
    """The least attempts for each task at which `effect` is detected with probability `goal`.

    None where `most` are not enough: no number is when the tasks are too few for the test's p-value to reach the level.
    """
    enough = _enough(lambda attempts: replace(design, attempts=attempts), effect, test, goal)
    return _least(enough, most(test, design.tasks))


def needed_tasks(design: SweepDesign, effect: float, test: Test = "paired", goal: float = GOAL) -> int | None:
    """The least tasks, with the design's attempts each, at which `effect` is detected with probability `goal`.

    None where `most` are not enough.
    """
    enough = _enough(lambda tasks: replace(design, tasks=tasks), effect, test, goal)
    return _least(enough, most(test, design.attempts))


def most(test: Test, other: int) -> int:
    """The largest number of tasks or attempts that is tried."""
    return max(1, min(MOST, MOST_TRIALS[test] // other))


def fewest_tasks(level: float) -> int:
    """The least number of tasks on which the sign-flip test can give a p-value below `level`."""
    return next(tasks for tasks in count(1) if smallest_p(tasks) < level)


def _enough(design_at: Callable[[int], SweepDesign], effect: float, test: Test, goal: float) -> Callable[[int], bool]:
    return lambda size: power(design_at(size), effect, test) >= goal


def _least(enough: Callable[[int], bool], largest: int) -> int | None:
    """By doubling, then halving the bracket."""
    low, high = 0, 1
    while not enough(high):
        if high >= largest:
            return None
        low, high = high, min(2 * high, largest)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


# ------------------------------------------------------------------------------------------------ what was observed


def observed_rate(solved: int, n: int) -> float:
    """A baseline's pass rate as a design takes it, never 0 or 1: (solved + ½)/(n + 1).

    To two decimals, so that designs that hardly differ share a computation.
    """
    return min(0.99, max(0.01, round((solved + 0.5) / (n + 1), 2)))


def observed_spread(solved: Sequence[int], n: Sequence[int]) -> float | None:
    """The logit SD between tasks behind a baseline's counts; None where every task has a single valid trial.

    By moments: the variance of the tasks' observed rates less the binomial part of it, Σ p̂(1 − p̂)/(n − 1)/tasks, in
    the manner of Kleinman (JASA 1973, 68:46). Then, which is ours, the SD at which a logistic-normal rate with the same
    mean has that variance. At most 4: beyond, tasks are always solved or never.

    Args:
        solved: of the baseline's valid trials, one number for each task.
        n: its valid trials.
    """
    if sum(count > 1 for count in n) < 2:
        return None
    repeated = [(s / count, count) for s, count in zip(solved, n, strict=True) if count > 1]
    rates = np.array([rate for rate, _ in repeated])
    noise = np.mean([rate * (1 - rate) / (count - 1) for rate, count in repeated])
    between, mean = float(rates.var(ddof=1) - noise), float(np.clip(rates.mean(), 0.02, 0.98))

    def excess(spread: float) -> float:
        values = _rates(mean_logit(mean, spread), spread)
        return float((values - mean) ** 2 @ _WEIGHTS) - between

    if between <= 0:
        return 0.0
    return 4.0 if excess(4.0) <= 0 else float(scipy.optimize.brentq(excess, 0.0, 4.0, xtol=1e-4))
