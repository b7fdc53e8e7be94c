"""Did the instrument drift? The baseline's trials should not depend on when and where they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from capvec.records import Config, Outcome

DRAWS = 9_999
"""Permutations: the least p-value is 1/10,000."""
_TIE = 1e-9


@dataclass(frozen=True)
class DriftTest:
    """A permutation test on the baseline's valid trials."""

    statistic: float
    pvalue: float


@dataclass(frozen=True)
class Drift:
    """Of the baseline, with time and between workers."""

    trials: int
    """Valid baseline trials."""
    within_tasks: bool
    """Trials were exchanged within their task only. Otherwise (one attempt a task) between tasks too, and a plan that
    puts hard tasks last imitates a drift; never between runs, though."""
    pass_trend: DriftTest | None
    """Correlation of solved with the rank of the start, both less their task's mean: above 0 if later trials pass more
    often. This is the Cochran–Armitage statistic with ranks as scores."""
    steps_trend: DriftTest | None
    """The same for the rank of the number of steps (Spearman's correlation where tasks do not count)."""
    workers: int
    """Of all runs: `gw0` of one is another than `gw0` of the next."""
    pass_by_worker: DriftTest | None
    """Σ (solved − expected)²/variance over workers: Pearson's χ² of the table solved × worker where tasks do not count.
    """
    runs: int = 1
    """That the trials come from: more than one where shards were merged."""


def drift(outcomes: Sequence[Outcome], baseline: str = Config.BASELINE, seed: int = 0) -> Drift:
    """Test the baseline's trials for trend with time (Armitage, Biometrics 1955, 11:375) and between workers.

    p-values are of permutations: `DRAWS` are drawn, p = (1 + b)/(1 + B) (Phipson and Smyth, SAGMB 2010, 9:39). A plan
    runs its tasks in order, so time and task go together: where tasks have several attempts, trials are exchanged only
    within their task, and otherwise within their run, since merged runs differ in their tasks. A test is None where
    there is nothing to tell: all alike, one worker, no time on record.
    """
    valid = [outcome for outcome in outcomes if outcome.config == baseline and outcome.outcome != "error"]
    within = any(count > 1 for count in Counter(outcome.task for outcome in valid).values())
    valid.sort(key=lambda outcome: (outcome.task if within else outcome.run, outcome.task))
    strata = np.unique([outcome.task if within else outcome.run for outcome in valid], return_inverse=True)[1]
    runs = {outcome.run for outcome in valid}
    workers = [f"{outcome.run}: {outcome.worker}" for outcome in valid]
    solved = np.array([outcome.outcome == "solved" for outcome in valid], dtype=float)
    orders = _orders(strata, np.random.default_rng(seed))
    started = [datetime.fromisoformat(outcome.started).timestamp() if outcome.started else 0.0 for outcome in valid]
    start = stats.rankdata(started)
    return Drift(
        trials=len(valid),
        within_tasks=within,
        pass_trend=_trend(start, solved, strata, orders),
        steps_trend=_trend(start, stats.rankdata([outcome.steps for outcome in valid]), strata, orders),
        workers=len(set(workers)),
        pass_by_worker=_by_worker(workers, solved, strata, orders),
        runs=len(runs),
    )


def _orders(strata: NDArray[np.int64], generator: np.random.Generator) -> NDArray[np.int64]:
    """Random orders, each trial staying among those of its stratum: int [DRAWS, trials]; `strata` ascends."""
    orders: NDArray[np.int64] = np.argsort(strata + generator.random((DRAWS, len(strata))), axis=1)
    return orders


def _centred(values: NDArray[np.float64], strata: NDArray[np.int64]) -> NDArray[np.float64]:
    """Less the mean of the stratum."""
    if not len(values):
        return values
    means: NDArray[np.float64] = np.bincount(strata, values) / np.bincount(strata)
    return values - means[strata]


def _trend(
    start: NDArray[np.float64], values: NDArray[np.float64], strata: NDArray[np.int64], orders: NDArray[np.int64]
) -> DriftTest | None:
    one, two = _centred(start, strata), _centred(values, strata)
    scale = float(np.sqrt((one @ one) * (two @ two)))
    if scale < _TIE:
        return None
    observed = float(one @ two)
    as_far = np.abs(one[orders] @ two) >= abs(observed) - _TIE
    return DriftTest(observed / scale, _share(as_far))


def _by_worker(
    workers: Sequence[str], solved: NDArray[np.float64], strata: NDArray[np.int64], orders: NDArray[np.int64]
) -> DriftTest | None:
    names = sorted(set(workers))
    if len(names) < 2:
        return None
    excess = _centred(solved, strata)
    rates = solved - excess
    places = np.array([[worker == name for name in names] for worker in workers], dtype=float)
    variance = (rates * (1 - rates)) @ places
    informative = variance > _TIE
    if not informative.any():
        return None

    def statistic(missed: NDArray[np.float64]) -> NDArray[np.float64]:
        found: NDArray[np.float64] = ((missed @ places)[..., informative] ** 2 / variance[informative]).sum(axis=-1)
        return found

    observed = float(statistic(excess))
    return DriftTest(observed, _share(statistic(excess[orders]) >= observed - _TIE))


def _share(as_far: NDArray[np.bool_]) -> float:
    return float((1 + as_far.sum()) / (1 + DRAWS))
