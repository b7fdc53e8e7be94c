"""Interim analyses, simulated: do they keep the level, what do they cost in power, how many trials do they save?

The sections that `dev.simulations.fixed` puts into `reports/statistics/SIMULATION.md`; the model of the sweeps is that
of `power`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

from capvec.records import Interval
from capvec.stats.assumed import EQUIVALENCE_MARGIN
from capvec.stats.futility import chances, is_futile
from capvec.stats.intervals import clustered, reach
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import sign_flip_pvalues
from capvec.stats.power import SweepDesign, mean_logit
from capvec.stats.sequential import schedule
from capvec.stats.spending import course, sign_patterns, spent
from capvec.stats.verdict import LEVEL
from dev.simulations.scenarios import TAUS, scenario

DESIGNS = ((17, 1), (17, 5), (40, 2), (68, 2))
"""Tasks × attempts."""
GENERATORS = 13
"""Of the subgroup of flips, drawn anew for every `_CHUNK` sweeps: smaller than the tool's, and as exact."""
_CHUNK = 250


@dataclass(frozen=True)
class Ends:
    """How each sweep of a config ended; arrays [sweeps]."""

    pvalues: NDArray[np.float64]
    differences: NDArray[np.float64]
    """In pass rate, at the end."""
    intervals: tuple[Interval, ...]
    reaches: NDArray[np.float64]
    """X of each, whether or not it is above the margin."""
    saved: NDArray[np.float64]
    """Share of the planned trials that were not run."""

    def improves(self, adjusted: NDArray[np.float64]) -> NDArray[np.bool_]:
        """Whether it is called so with these p-values after Holm."""
        called: NDArray[np.bool_] = (adjusted < LEVEL) & (self.differences > 0)
        return called


@dataclass(frozen=True)
class Endings:
    """The same sweeps of one config in three ways."""

    fixed: Ends
    """Without interim analyses: all trials, and the plain test."""
    obeying: Ends
    """With interim analyses, as in a sweep."""
    ignoring: Ends
    """With interim analyses and no stop for futility."""


def simulated_rounds(design: SweepDesign, effects: Sequence[float], sweeps: int, seed: int) -> NDArray[np.bool_]:
    """Which trials are solved: bool [arms, sweeps, attempts, tasks], the baseline first."""
    generator = np.random.default_rng(seed)
    tasks = design.spread * generator.standard_normal((sweeps, design.tasks))
    arms = []
    for effect in (0.0, *effects):
        mean = mean_logit(design.base_rate + effect, math.hypot(design.spread, design.task_spread))
        logits = mean + tasks + design.task_spread * generator.standard_normal(tasks.shape)
        chance = generator.random((design.attempts, sweeps, design.tasks))
        arms.append((chance < special.expit(logits)).transpose(1, 0, 2))
    return np.stack(arms)


def endings(design: SweepDesign, effects: Sequence[float], sweeps: int, seed: int) -> list[Endings]:
    """How each of several configs ends, on the same sweeps."""
    base, *configs = simulated_rounds(design, effects, sweeps, seed)
    return [_endings(config, base, LEVEL / len(effects), seed) for config in configs]


def _endings(config: NDArray[np.bool_], base: NDArray[np.bool_], level: float, seed: int) -> Endings:
    sweeps, attempts, tasks = config.shape
    moved = config.astype(np.float32) - base
    seen = schedule(tasks, attempts)
    shares = [count / (tasks * attempts) for count in seen]
    analyses = [_seen(moved, count) for count in seen]  # each: mean differences, attempts of each task
    # In units in which sums are whole numbers, so that small floats hold them.
    whole = np.stack([means * math.lcm(*map(int, counts[counts > 0])) for means, counts in analyses]).round()
    whole = whole.astype(np.float32)
    parts = [
        course(
            whole[:, at : at + _CHUNK], [spent(t, level) for t in shares], sign_patterns(tasks, GENERATORS, seed + at)
        )
        for at in range(0, sweeps, _CHUNK)
    ]
    crossed, pvalues = (
        np.concatenate([getattr(part, name) for part in parts], axis=1) for name in ("crossed", "pvalues")
    )
    crossed[-1] = True  # the end, with any result
    reached = crossed.argmax(axis=0)
    futile = np.zeros_like(crossed)
    for index, (means, counts) in enumerate(analyses[:-1]):
        futile[index] = [
            is_futile(*chances(row[counts > 0], _pairs(counts), tasks, shares[index], LEVEL, EQUIVALENCE_MARGIN))
            for row in means
        ]
    futile[-1] = True
    given_up = futile.argmax(axis=0)
    stop = np.minimum(reached, given_up)
    every = np.arange(sweeps)
    final = np.full(sweeps, len(seen) - 1)
    obeyed = np.where(given_up < reached, 1.0, pvalues[stop, every])
    return Endings(
        _ends(analyses, shares, final, sign_flip_pvalues(whole[-1].astype(np.int64))),
        _ends(analyses, shares, stop, obeyed),
        _ends(analyses, shares, reached, pvalues[reached, every]),
    )


def _seen(moved: NDArray[np.float32], blocks: int) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Mean differences [sweeps, tasks] of the first blocks, and how many attempts of each task these hold [tasks]."""
    tasks = moved.shape[2]
    counts = np.array([len(range(task, blocks, tasks)) for task in range(tasks)])
    mask = np.arange(moved.shape[1])[:, None] < counts
    return (moved * mask).sum(axis=1) / np.maximum(counts, 1), counts


def _pairs(counts: NDArray[np.int64]) -> float:
    return float(counts[counts > 0].mean())


def _ends(
    analyses: Sequence[tuple[NDArray[np.float32], NDArray[np.int64]]],
    shares: Sequence[float],
    stop: NDArray[np.int64],
    pvalues: NDArray[np.float64],
) -> Ends:
    stopped = (analyses[analysis] for analysis in stop)
    rows = [(means[sweep][counts > 0], _pairs(counts)) for sweep, (means, counts) in enumerate(stopped)]
    intervals = tuple(clustered(row.tolist(), pairs) for row, pairs in rows)
    return Ends(
        pvalues,
        np.array([float(row.mean()) for row, _ in rows]),
        intervals,
        np.array([reach(interval, len(row)) for interval, (row, _) in zip(intervals, rows, strict=True)]),
        1 - np.array(shares)[stop],
    )


# ------------------------------------------------------------------------------------------------ the document


def sections(sweeps: int, seed: int) -> Iterator[str]:
    """Lines of the document."""
    yield "## Interim analyses: the level\n"
    yield (
        "With `--sequential`, by the rule of `capvec/stats/sequential.py`. Share of sweeps in which any config is "
        "called "
        "*improves* though none has an effect, at most 0.025 as above: without interim analyses; with them; with them "
        "and no stop for futility. Saved: the mean share of a config's planned trials that were not run, with interim "
        "analyses, and with them and no stop for futility.\n"
    )
    yield "| tasks × attempts | τ | configs | none | interim | never futile | saved | saved, never futile |"
    yield "|" + "---|" * 8
    for tasks, attempts in DESIGNS:
        for tau in TAUS:
            for configs in (1, 4):
                ways = _ways(endings(scenario(tasks, attempts, tau), [0.0] * configs, sweeps, seed))
                false = " | ".join(f"{improves.any(axis=0).mean():.3f}" for _, improves in ways)
                saved = " | ".join(f"{_saved(ends):.2f}" for ends, _ in ways[1:])
                yield f"| {tasks} × {attempts} | {tau:g} | {configs} | {false} | {saved} |"
    yield ""
    yield "## Interim analyses: power, trials saved, and what stopping does to the estimate\n"
    yield (
        "One config with an effect, τ = 1. Called *improves*: as above. Difference: the mean of those that were called "
        "so, without and with interim analyses; both are biased outward, since small estimates are not called so. "
        "Covered: 95 % intervals that hold the true effect, without and with interim analyses. Wrongly excluded: "
        "sweeps with interim analyses that exclude effects above X although the true effect is above X.\n"
    )
    yield (
        "| tasks × attempts | true effect | none | interim | never futile | saved | saved, never futile | "
        "difference, none | interim | covered, none | interim | wrongly excluded |"
    )
    yield "|" + "---|" * 12
    for tasks, attempts in DESIGNS:
        for effect in (0.0, 0.1, 0.2, 0.3):
            ways = _ways(endings(scenario(tasks, attempts, 1.0), [effect], sweeps, seed))
            (fixed, called), (looked, found), _ = ways
            cells = (
                *(f"{improves.mean():.3f}" for _, improves in ways),
                *(f"{_saved(ends):.2f}" for ends, _ in ways[1:]),
                *(_mean(ends[0], improves[0]) for ends, improves in ((fixed, called), (looked, found))),
                *(f"{_covered(ends[0], effect):.3f}" for ends in (fixed, looked)),
                f"{_wrongly_excluded(looked[0], effect):.3f}",
            )
            yield f"| {tasks} × {attempts} | {effect:+g} | " + " | ".join(cells) + " |"
    yield (
        "\nInterim analyses cost next to no power, since the rule keeps almost all of the level for the end. A "
        "config without an "
        "effect does not stop as soon as it could: with tasks enough to exclude effects beyond the margin, it goes on "
        "while that may yet happen.\n"
    )


def _ways(endings_of: Sequence[Endings]) -> list[tuple[list[Ends], NDArray[np.bool_]]]:
    """Each way with its ends [configs], and which of them are called *improves* [configs, sweeps]."""
    ways = []
    for name in ("fixed", "obeying", "ignoring"):
        ends: list[Ends] = [getattr(one, name) for one in endings_of]
        adjusted = np.array([holm(row) for row in np.stack([one.pvalues for one in ends], axis=1).tolist()]).T
        ways.append((ends, np.stack([one.improves(row) for one, row in zip(ends, adjusted, strict=True)])))
    return ways


def _saved(ends: Sequence[Ends]) -> float:
    return float(np.mean([one.saved.mean() for one in ends]))


def _mean(ends: Ends, called: NDArray[np.bool_]) -> str:
    return f"{ends.differences[called].mean():+.2f}" if called.any() else "–"


def _covered(ends: Ends, effect: float) -> float:
    return float(np.mean([interval.low <= effect <= interval.high for interval in ends.intervals]))


def _wrongly_excluded(ends: Ends, effect: float) -> float:
    # Called improves or harms, a config excludes nothing.
    return float(((ends.reaches <= EQUIVALENCE_MARGIN) & (ends.reaches < abs(effect)) & (ends.pvalues >= LEVEL)).mean())
