"""Did the instrument drift? The baseline's trials should not depend on when and where they ran."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

import numpy as np
import scipy
from numpy.typing import NDArray

from capvec.records import Config, Outcome

DRAWS = 9_999
"""Permutations: the least p-value is 1/10,000."""
_TIE = 1e-9
_BATCH = 250_000
"""Places of the orders that are drawn at once."""
_KEY_BITS, _INT_BITS = 53, 63
"""Of a random number between 0 and 1, and of a whole number without its sign."""


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
    started = [datetime.fromisoformat(outcome.started).timestamp() if outcome.started else 0.0 for outcome in valid]
    start = scipy.stats.rankdata(started)
    tests = (
        _trend(start, solved, strata),
        _trend(start, scipy.stats.rankdata([outcome.steps for outcome in valid]), strata),
        _by_worker(workers, solved, strata),
    )
    pass_trend, steps_trend, pass_by_worker = _permuted(tests, _orders(strata, np.random.default_rng(seed)))
    return Drift(
        trials=len(valid),
        within_tasks=within,
        pass_trend=pass_trend,
        steps_trend=steps_trend,
        workers=len(set(workers)),
        pass_by_worker=pass_by_worker,
        runs=len(runs),
    )


@dataclass(frozen=True)
class _Test:
    """A test before its permutations."""

    statistic: float
    least: float
    """What `of` gives for a permutation that is as far from the null as the observed order."""
    of: Callable[[NDArray[np.int64]], NDArray[np.float64]]
    """Maps orders `[draws, trials]` to a number for each."""


def _permuted(tests: Sequence[_Test | None], batches: Iterable[NDArray[np.int64]]) -> list[DriftTest | None]:
    """Each test with its p-value. The batches of orders are never held together: of 10,000 trials they take 800 MB."""
    as_far = [0] * len(tests)
    for orders in batches if any(tests) else ():
        for number, test in enumerate(tests):
            as_far[number] += int((test.of(orders) >= test.least).sum()) if test is not None else 0
    return [
        None if test is None else DriftTest(test.statistic, (1 + count) / (1 + DRAWS))
        for test, count in zip(tests, as_far, strict=True)
    ]


def _orders(strata: NDArray[np.int64], generator: np.random.Generator) -> Iterator[NDArray[np.int64]]:
    """`DRAWS` random orders, each trial staying among those of its stratum, in batches: int [draws, trials].

    `strata` counts from 0 and ascends. Strata of one size are sorted together, which is faster than sorting all trials.
    """
    sizes = np.bincount(strata)
    starts = np.cumsum(sizes) - sizes
    blocks = [starts[sizes == size, None] + np.arange(size) for size in np.unique(sizes)]
    batch = max(1, _BATCH // max(len(strata), 1))
    for done in range(0, DRAWS, batch):
        keys = generator.random((min(batch, DRAWS - done), len(strata)))
        orders = np.empty(keys.shape, dtype=np.int64)
        for block in blocks:
            places = _places(keys[:, block.ravel()].reshape(len(keys), *block.shape))
            orders[:, block.ravel()] = (block[:, :1] + places).reshape(len(keys), -1)
        yield orders


def _places(keys: NDArray[np.float64]) -> NDArray[np.int64]:
    """`np.argsort` of random keys along the last axis.

    A key is a multiple of 2⁻⁵³. As whole numbers with their places in the lower bits, keys sort in half the time.
    """
    bits = (keys.shape[-1] - 1).bit_length()
    if _KEY_BITS + bits > _INT_BITS:
        return np.asarray(np.argsort(keys, axis=-1))
    numbers: NDArray[np.int64] = np.ldexp(keys, _KEY_BITS).astype(np.int64) << bits
    numbers |= np.arange(keys.shape[-1])
    numbers.sort(axis=-1)
    numbers &= (1 << bits) - 1
    return numbers


def _centred(values: NDArray[np.float64], strata: NDArray[np.int64]) -> NDArray[np.float64]:
    """Less the mean of the stratum."""
    if not len(values):
        return values
    means: NDArray[np.float64] = np.bincount(strata, values) / np.bincount(strata)
    return values - means[strata]


def _products(rows: NDArray[np.float64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`rows @ values`, without threads, which on a busy machine take several times as long as the sums."""
    return np.asarray(np.einsum("...i,i->...", rows, values))


def _trend(start: NDArray[np.float64], values: NDArray[np.float64], strata: NDArray[np.int64]) -> _Test | None:
    one, two = _centred(start, strata), _centred(values, strata)
    scale = float(np.sqrt((one @ one) * (two @ two)))
    if scale < _TIE:
        return None
    observed = float(one @ two)
    return _Test(observed / scale, abs(observed) - _TIE, lambda orders: np.abs(_products(one[orders], two)))


def _by_worker(workers: Sequence[str], solved: NDArray[np.float64], strata: NDArray[np.int64]) -> _Test | None:
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
        found: NDArray[np.float64] = (missed[..., informative] ** 2 / variance[informative]).sum(axis=-1)
        return found

    def of(orders: NDArray[np.int64]) -> NDArray[np.float64]:
        permuted = excess[orders]
        return statistic(np.stack([_products(permuted, place) for place in places.T], axis=-1))

    observed = float(statistic(excess @ places))
    return _Test(observed, observed - _TIE, of)
