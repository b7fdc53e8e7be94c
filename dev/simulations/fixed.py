"""`python -m dev.simulations.fixed`: error rates, coverage and power of the verdict's rule.

It writes `reports/statistics/SIMULATION.md`.

Sweeps are drawn from the model of `power`: tasks differ (logit SD `spread`), and each arm has a deviation of its own on
every task, so that the effect differs between tasks with a logit SD τ. Under the null both arms have the same rate over
all such tasks, and are exchangeable; one section breaks that (`scenarios.lopsided`).
"""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from capvec.stats.effects import Effect
from capvec.stats.format_change import FormatChange
from capvec.stats.intervals import clustered, reach
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import sign_flip_pvalues
from capvec.stats.pooled import fisher_table
from capvec.stats.power import SweepDesign, minimum_detectable_effect, power, simulated_solved
from capvec.stats.verdict import Detectable, Name, Verdict, decide
from dev.simulations import sequential as simulate_sequential
from dev.simulations.scenarios import TAUS, lopsided, scenario

LEVEL = 0.05
DESIGNS = ((6, 1), (6, 5), (17, 1), (17, 5), (40, 2), (68, 2))
"""Tasks × attempts."""
LOPSIDED_DESIGNS = ((17, 5), (17, 20), (40, 2), (68, 2))
SPARSE = (
    (17, 1, 0.01, 0.12, 0.0, 2.0),
    (6, 20, 0.02, 0.10, 2.0, 3.0),
    (12, 10, 0.02, 0.10, 2.0, 3.0),
    (17, 5, 0.02, 0.10, 3.0, 3.0),
    (17, 20, 0.02, 0.05, 2.0, 3.0),
    (17, 20, 0.02, 0.20, 2.0, 1.0),
    (12, 60, 0.01, 0.20, 2.0, 1.0),
    (40, 2, 0.02, 0.05, 2.0, 3.0),
    (40, 10, 0.02, 0.05, 2.0, 3.0),
    (40, 20, 0.01, 0.14, 2.0, 2.0),
    (68, 2, 0.02, 0.05, 2.0, 3.0),
)
"""Tasks × attempts, base rate, effect, τ, spread; simulated with their mirror images at the other end of the scale."""
_FLAT = FormatChange("flat", "flat", "flat", tested=True, words="")
_ANY = Detectable(None, None, LEVEL)
NAMES: tuple[Name, ...] = ("improves", "harms", "no effect detected", "underpowered")


@dataclass(frozen=True)
class Rejections:
    """Share of simulated sweeps in which each test rejects at 0.05."""

    fisher: float
    cmh: float
    """With continuity correction."""
    sign_flip: float


@dataclass(frozen=True)
class Coverage:
    """Share of simulated sweeps whose 95 % interval holds the true difference over all such tasks."""

    clustered: float
    plain_t: float
    inverted_sign_flip: float
    width: float
    """Mean width of the clustered interval."""
    beyond: float
    """Share whose X (`intervals.reach`) is below the true effect's size."""


def rejections(design: SweepDesign, effect: float, sweeps: int, seed: int) -> Rejections:
    """Of the three tests, on the same sweeps."""
    base, config = _two_arms(design, effect, sweeps, seed)
    total = design.tasks * design.attempts
    return Rejections(
        float((fisher_table(total, total)[config.sum(axis=1), base.sum(axis=1)] < LEVEL).mean()),
        float((cmh_pvalues(config, base, design.attempts) < LEVEL).mean()),
        float((sign_flip_pvalues(config - base) < LEVEL).mean()),
    )


def cmh_pvalues(config: NDArray[np.int64], base: NDArray[np.int64], attempts: int) -> NDArray[np.float64]:
    """`stratified.cmh(…).pvalue_asymptotic` of many sweeps at once: int [sweeps, tasks] to float64 [sweeps]."""
    solved, n = config + base, 2 * attempts
    variance = (solved * (n - solved)).sum(axis=1) * attempts**2 / (n**2 * (n - 1))
    excess = np.maximum(np.abs((config - base).sum(axis=1) / 2) - 0.5, 0.0)
    pvalues: NDArray[np.float64] = stats.chi2.sf(excess**2 / np.where(variance > 0, variance, np.inf), 1)
    return pvalues


def coverage(design: SweepDesign, effect: float, sweeps: int, seed: int) -> Coverage:
    """Of the interval that is used, and of two that are not."""
    base, config = _two_arms(design, effect, sweeps, seed)
    differences = (config - base) / design.attempts
    intervals = [clustered(row.tolist(), design.attempts) for row in differences]
    error = differences.std(axis=1, ddof=1) / math.sqrt(design.tasks)
    half = stats.t.ppf(0.975, design.tasks - 1) * error
    # A value is in the inverted test's interval when the test does not reject it.
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(999, design.tasks))
    moved = differences - effect
    as_far = np.abs(moved @ signs.T) >= np.abs(moved.sum(axis=1))[:, None] - 1e-9
    return Coverage(
        float(np.mean([interval.low <= effect <= interval.high for interval in intervals])),
        float((np.abs(differences.mean(axis=1) - effect) <= half + 1e-12).mean()),
        float(((1 + as_far.sum(axis=1)) / 1000 >= LEVEL).mean()),
        float(np.mean([interval.high - interval.low for interval in intervals])),
        float(np.mean([reach(interval, design.tasks) < abs(effect) for interval in intervals])),
    )


def verdicts(design: SweepDesign, effects: Sequence[float], sweeps: int, seed: int) -> list[list[Verdict]]:
    """The verdict's own rule on simulated sweeps of several configs: for each sweep, each config's verdict."""
    rates = [design.base_rate, *(design.base_rate + effect for effect in effects)]
    base, *configs = simulated_solved(design, rates, np.random.default_rng(seed), sweeps)
    pvalues = np.stack([sign_flip_pvalues(config - base) for config in configs], axis=1)
    adjusted = [holm(row.tolist()) for row in pvalues]
    return [
        [_verdict(config[sweep], base[sweep], design, adjusted[sweep][index]) for index, config in enumerate(configs)]
        for sweep in range(sweeps)
    ]


def _verdict(config: NDArray[np.int64], base: NDArray[np.int64], design: SweepDesign, pvalue: float) -> Verdict:
    differences = ((config - base) / design.attempts).tolist()
    ours, theirs = float(config.mean()) / design.attempts, float(base.mean()) / design.attempts
    interval = clustered(differences, design.attempts)
    tasks, n = design.tasks, design.tasks * design.attempts
    effect = Effect("config", "pass_rate", tasks, n, theirs, ours, ours - theirs, pvalue, interval, pvalue)
    return decide(effect, _FLAT, _ANY)


def _two_arms(design: SweepDesign, effect: float, sweeps: int, seed: int) -> NDArray[np.int64]:
    rates = (design.base_rate, design.base_rate + effect)
    return simulated_solved(design, rates, np.random.default_rng(seed), sweeps)


# ------------------------------------------------------------------------------------------------ the document


def document(sweeps: int, seed: int) -> Iterator[str]:
    """The lines of `SIMULATION.md`."""
    error = math.sqrt(LEVEL * (1 - LEVEL) / sweeps)
    yield "# The verdict's rule, simulated\n"
    yield f"Made by `python -m dev.simulations.fixed --sweeps {sweeps} --seed {seed}`.\n"
    yield (
        f"{sweeps} sweeps a row, so a rate of 0.05 has a standard error of {error:.3f}. Baseline rate 0.4 over all "
        "such tasks, logit SD between tasks 2, unless said otherwise; τ is the logit SD of the effect between tasks. "
        "The model is in `capvec/stats/power.py`, the rule in `capvec/stats/verdict.py`.\n"
    )
    yield from _null_section(sweeps, seed)
    yield from _improves_section(sweeps, seed)
    yield from _lopsided_section(sweeps, seed)
    yield from _coverage_section(sweeps, seed)
    yield from _sparse_section(sweeps, seed)
    yield from _power_section(sweeps, seed)
    yield from _names_section(sweeps, seed)
    yield from simulate_sequential.sections(sweeps, seed)


def _null_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "## Rejections under the null, at 0.05\n"
    yield "| tasks × attempts | τ | Fisher, pooled | CMH | sign-flip over tasks |\n|---|---|---|---|---|"
    for tasks, attempts in DESIGNS:
        for tau in TAUS:
            found = rejections(scenario(tasks, attempts, tau), 0.0, sweeps, seed)
            yield f"| {tasks} × {attempts} | {tau:g} | {found.fisher:.3f} | {found.cmh:.3f} | {found.sign_flip:.3f} |"
    yield (
        "\nPooled Fisher is conservative when tasks differ, and wrong when effects differ by task; CMH, which takes "
        "the "
        "effect as the same on every task, is wrong sooner. The sign-flip test keeps its level throughout: both arms "
        "deviate alike here, so its null holds.\n"
    )


def _improves_section(sweeps: int, seed: int) -> Iterator[str]:
    yield '## False "improves" under the null\n'
    yield (
        "Share of sweeps in which any config is called *improves* though none has an effect; at most "
        "0.025 is promised, half of the two-sided 0.05.\n"
    )
    yield "| tasks × attempts | τ | 1 config | 4 configs, after Holm |\n|---|---|---|---|"
    for tasks, attempts in DESIGNS:
        for tau in TAUS:
            shares = [
                _share_of(verdicts(scenario(tasks, attempts, tau), [0.0] * configs, sweeps, seed)) for configs in (1, 4)
            ]
            yield f"| {tasks} × {attempts} | {tau:g} | {shares[0]:.3f} | {shares[1]:.3f} |"
    yield ""


def _lopsided_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "## Where effects differ and only cancel on average\n"
    yield (
        "One config, whose logits alone deviate from task to task, with SD τ, while the baseline's do not; both arms "
        "have the same rate over all such tasks. Share of sweeps in which it is called *improves* and *harms*, and "
        "whose interval holds 0.\n"
    )
    yield (
        "| tasks × attempts | base rate | τ | spread 2: improves | harms | covered | spread 0.5: improves | harms | "
        "covered |\n|---|---|---|---|---|---|---|---|---|"
    )
    for tasks, attempts in LOPSIDED_DESIGNS:
        for base_rate in (0.4, 0.9):
            for tau in (1.0, 2.0, 3.0):
                found = [
                    _lopsided_shares(SweepDesign(tasks, attempts, base_rate, spread, tau), sweeps, seed)
                    for spread in (2.0, 0.5)
                ]
                cells = " | ".join(f"{share:.3f}" for shares in found for share in shares)
                yield f"| {tasks} × {attempts} | {base_rate:g} | {tau:g} | {cells} |"
    yield (
        "\nThe sign-flip test takes the differences as symmetric about 0, which an average of 0 does not make them. At "
        "a base rate of 0.4 there is room on both sides, and at 2 attempts a difference is mostly noise, which is "
        "symmetric: there the level holds, or nearly. Near 1 a deviating config does a little better on many tasks "
        "and much worse on few. With few tasks and many attempts the many are seen, and the few are often not among "
        "the tasks: *improves* is then said too often, the more so the more alike tasks are otherwise. Near 0 the "
        "same holds of *harms*. More tasks help, more attempts do not. The interval, which is wider than the test "
        "where tasks stand still, holds 0 often enough.\n"
    )


def _lopsided_shares(design: SweepDesign, sweeps: int, seed: int) -> tuple[float, float, float]:
    base, config = lopsided(design, sweeps, seed)
    moved = config - base
    rejected, sums = sign_flip_pvalues(moved) < LEVEL, moved.sum(axis=1)
    intervals = [clustered(row.tolist(), design.attempts) for row in moved / design.attempts]
    covered = np.mean([interval.low <= 0 <= interval.high for interval in intervals])
    return float((rejected & (sums > 0)).mean()), float((rejected & (sums < 0)).mean()), float(covered)


def _share_of(sweeps: Sequence[Sequence[Verdict]]) -> float:
    return float(np.mean([any(call.name == "improves" for call in configs) for configs in sweeps]))


def _coverage_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "## Coverage of 95 % intervals for the difference in pass rate\n"
    yield (
        "| tasks × attempts | base rate | effect | τ | **clustered (used)** | plain t | inverted sign-flip | mean "
        "width |\n|---|---|---|---|---|---|---|---|"
    )
    for tasks, attempts in DESIGNS:
        for base_rate, effect, tau in ((0.4, 0.0, 0.0), (0.4, 0.0, 2.0), (0.4, 0.2, 1.0), (0.05, 0.05, 0.0)):
            found = coverage(scenario(tasks, attempts, tau, base_rate), effect, sweeps, seed)
            yield (
                f"| {tasks} × {attempts} | {base_rate:g} | {effect:+g} | {tau:g} | {found.clustered:.3f} | "
                f"{found.plain_t:.3f} | {found.inverted_sign_flip:.3f} | {found.width:.2f} |"
            )
    yield (
        "\nThe interval that is used covers here as often as it says, and with few tasks more often. "
        "The two that are not used have width zero where no task moved, and then exclude every other effect from "
        "however few trials: with a baseline near 0 and few trials that is frequent, and their coverage falls apart.\n"
    )


def _sparse_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "### Where hardly any task moves\n"
    yield (
        "Baselines near 0 and near 1, and effects that few tasks carry. Wrongly excluded, at any margin: X is "
        "below the effect.\n"
    )
    yield (
        "| tasks × attempts | base rate | effect | τ | spread | **clustered (used)** | plain t | inverted sign-flip | "
        "mean width | wrongly excluded |\n|---|---|---|---|---|---|---|---|---|---|"
    )
    for tasks, attempts, base_rate, effect, tau, spread in SPARSE:
        for rate, moved in ((base_rate, effect), (1 - base_rate, -effect)):
            design = scenario(tasks, attempts, tau, rate, spread)
            found = coverage(design, moved, sweeps, seed)
            yield (
                f"| {tasks} × {attempts} | {rate:g} | {moved:+g} | {tau:g} | {spread:g} | {found.clustered:.3f} | "
                f"{found.plain_t:.3f} | {found.inverted_sign_flip:.3f} | {found.width:.2f} | {found.beyond:.3f} |"
            )
    yield (
        "\nWhere most tasks stand still, the interval leaves room for tasks that none of them resembles, and covers. "
        "It becomes too narrow, as any t interval does, where most tasks move a little and few a lot, and attempts are "
        "so many that no task stands still: a little at 17 × 20, plainly at 12 × 60. There only more tasks help.\n"
    )


def _power_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "## Power at the minimum detectable effect of the plan\n"
    yield (
        "The minimum detectable rise at power 0.80 according to `capvec.stats.power` (one config, τ = 0), and how "
        "often "
        "it was found on new sweeps; then the same rise with τ = 1. What a plan promises is for an effect that is "
        "alike on all tasks; where it is not, the paired test finds it less often.\n"
    )
    yield "| tasks × attempts | test | least rise | promised | found | found at τ = 1 |\n|---|---|---|---|---|---|"
    for tasks, attempts in DESIGNS:
        design = scenario(tasks, attempts, 0.0)
        for test in ("paired", "pooled"):
            rise = minimum_detectable_effect(design, test)
            if rise is None:
                yield f"| {tasks} × {attempts} | {test} | none of any size | – | – | – |"
                continue
            found = [
                rejections(replace(design, task_spread=tau / math.sqrt(2)), rise, sweeps, seed) for tau in (0.0, 1.0)
            ]
            shares = [power(design, rise, test), *(r.sign_flip if test == "paired" else r.fisher for r in found)]
            cells = " | ".join(f"{share:.3f}" for share in shares)
            yield f"| {tasks} × {attempts} | {test} | {rise:+.2f} | {cells} |"
    yield ""


def _names_section(sweeps: int, seed: int) -> Iterator[str]:
    yield "## What an effect is called\n"
    yield (
        "One config, τ = 1, equivalence margin 0.15. The last column: sweeps that exclude effects above X although "
        "the true effect "
        "is above X.\n"
    )
    yield "| tasks × attempts | true effect | " + " | ".join(NAMES) + " | wrongly excluded |"
    yield "|" + "---|" * (len(NAMES) + 3)
    for tasks, attempts in (*DESIGNS, (68, 10)):
        for effect in (0.0, 0.1, 0.2):
            found = [first for first, *_ in verdicts(scenario(tasks, attempts, 1.0), [effect], sweeps, seed)]
            counts = Counter(call.name for call in found)
            wrong = np.mean([call.excluded is not None and call.excluded < effect for call in found])
            shares = " | ".join(f"{counts[name] / sweeps:.3f}" for name in NAMES)
            yield f"| {tasks} × {attempts} | {effect:+g} | {shares} | {wrong:.3f} |"
    yield ""


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the document."""
    parser = argparse.ArgumentParser(prog="python -m dev.simulations.fixed", description=__doc__)
    parser.add_argument("--sweeps", type=int, default=4000, help="simulated sweeps behind each number")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("reports/statistics/SIMULATION.md"))
    options = parser.parse_args(arguments)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text("\n".join(document(options.sweeps, options.seed)).rstrip() + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
