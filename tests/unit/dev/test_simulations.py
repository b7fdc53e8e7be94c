"""A quick run of the simulation behind reports/statistics/SIMULATION.md, with binomial bounds."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats
from support import REPOSITORY

from capvec.records import Outcome
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import sign_flip_pvalues
from capvec.stats.power import SweepDesign, minimum_detectable_effect, power
from capvec.stats.sequential import schedule, sequential_test
from capvec.stats.stratified import Stratum, cmh
from dev.simulations.fixed import cmh_pvalues, coverage, rejections, verdicts
from dev.simulations.scenarios import lopsided, scenario
from dev.simulations.sequential import endings, simulated_rounds

pytestmark = pytest.mark.unit

SWEEPS = 600
LOOKED_AT = 250
"""Sweeps where each has several looks."""
REPORT = REPOSITORY / "reports" / "statistics" / "SIMULATION.md"


def at_most(rate, sweeps=SWEEPS):
    """A count that a binomial at `rate` exceeds with probability 0.001."""
    return stats.binom.ppf(0.999, sweeps, rate) / sweeps


@pytest.mark.parametrize("tau", [0.0, 1.0, 2.0])
def test_the_sign_flip_test_keeps_its_level_whatever_the_tasks_do(tau):
    assert rejections(scenario(17, 5, tau), 0.0, SWEEPS, seed=1).sign_flip <= at_most(0.05)


def test_fisher_and_cmh_do_not_when_effects_differ_by_task():
    found = rejections(scenario(17, 5, 2.0), 0.0, SWEEPS, seed=1)
    assert found.cmh > at_most(0.05)
    assert rejections(scenario(17, 5, 0.0), 0.0, SWEEPS, seed=1).fisher < 0.025


@pytest.mark.parametrize("tau", [0.0, 2.0])
def test_false_improves_anywhere_in_a_family_stay_under_half_the_level(tau):
    found = verdicts(scenario(17, 5, tau), [0.0, 0.0, 0.0], SWEEPS, seed=2)
    share = np.mean([any(call.name == "improves" for call in family) for family in found])
    assert share <= at_most(0.025)


def test_the_interval_covers_and_what_is_excluded_is_rarely_there():
    design = scenario(40, 2, 1.0)
    assert 1 - coverage(design, 0.2, SWEEPS, seed=3).clustered <= at_most(0.05)
    wrong = [
        call for (call,) in verdicts(design, [0.1], SWEEPS, seed=3) if call.excluded is not None and call.excluded < 0.1
    ]
    assert len(wrong) / SWEEPS <= at_most(0.05)


@pytest.mark.parametrize(("base_rate", "effect"), [(0.02, 0.1), (0.98, -0.1)])
def test_the_interval_covers_where_hardly_any_task_moves(base_rate, effect):
    found = coverage(scenario(6, 20, 2.0, base_rate, spread=3.0), effect, SWEEPS, seed=3)
    assert 1 - found.clustered <= at_most(0.05)
    assert found.beyond <= at_most(0.025)
    assert found.plain_t < 0.9


def test_where_gains_and_losses_only_cancel_on_average_few_tasks_are_called_better_too_often():
    def improves(tasks, attempts):
        base, config = lopsided(SweepDesign(tasks, attempts, 0.9, 0.5, 3.0), SWEEPS, 9)
        sums = (config - base).sum(axis=1)
        assert np.mean(sums) / tasks / attempts == pytest.approx(0, abs=4 * np.std(sums) / tasks / attempts / 600**0.5)
        return ((sign_flip_pvalues(config - base) < 0.05) & (sums > 0)).mean()

    assert improves(17, 20) > at_most(0.025)
    assert improves(68, 2) <= at_most(0.025)


def test_the_plans_power_is_what_new_sweeps_find():
    design = scenario(17, 5, 0.0)
    rise = minimum_detectable_effect(design)
    found = rejections(design, rise, SWEEPS, seed=4).sign_flip
    # Both are simulated: 2000 sweeps behind the promise.
    error = (0.8 * 0.2 * (1 / SWEEPS + 1 / 2000)) ** 0.5
    assert found == pytest.approx(power(design, rise), abs=3.3 * error)


def test_the_simulations_cmh_is_the_one_of_the_report():
    generator = np.random.default_rng(5)
    config, base = generator.integers(0, 4, (2, 20, 6))
    alone = [
        cmh([Stratum(int(a), 3, int(c), 3) for a, c in zip(ours, theirs, strict=True)]).pvalue_asymptotic
        for ours, theirs in zip(config, base, strict=True)
    ]
    assert cmh_pvalues(config, base, 3) == pytest.approx(alone)


def test_the_simulations_looks_are_those_of_the_tool():
    design, sweeps, attempts = scenario(10, 3, 1.0), 40, 3
    base, config = simulated_rounds(design, [0.3], sweeps, 6)
    (found,) = endings(design, [0.3], sweeps, 6)
    blocks = [(f"t{task}", attempt) for attempt in range(attempts) for task in range(10)]

    def arm(solved):
        return {
            (f"t{task}", attempt): Outcome(
                "r", f"t{task}", "c", 1, 1.0, attempt, 0, "solved" if solved[attempt, task] else "unsolved"
            )
            for attempt in range(attempts)
            for task in range(10)
        }

    for sweep in range(sweeps):
        tool = sequential_test("c", arm(config[sweep]), arm(base[sweep]), blocks, schedule(10, attempts))
        assert found.obeying.pvalues[sweep] == pytest.approx(tool.pvalue)
        assert found.obeying.saved[sweep] == pytest.approx(1 - tool.analyses[-1].share)
        assert found.obeying.differences[sweep] == pytest.approx(tool.analyses[-1].difference)
    assert len(set(found.obeying.saved)) > 1  # some stopped, others did not


@pytest.mark.parametrize("tau", [0.0, 2.0])
def test_with_looks_false_improves_stay_under_half_the_level_whether_futility_is_obeyed_or_not(tau):
    design = scenario(17, 5, tau)
    family = endings(design, [0.0, 0.0], LOOKED_AT, seed=7)
    for way in ("obeying", "ignoring"):
        ends = [getattr(one, way) for one in family]
        adjusted = np.array([holm(row) for row in np.stack([one.pvalues for one in ends], axis=1).tolist()])
        false = np.any([one.improves(adjusted[:, index]) for index, one in enumerate(ends)], axis=0).mean()
        assert false <= at_most(0.025, LOOKED_AT)
        # Two-sided, any config: Holm's rule at 0.05.
        assert (adjusted < 0.05).any(axis=1).mean() <= at_most(0.05, LOOKED_AT)


def test_looks_cost_little_power_and_save_trials_where_there_is_an_effect():
    (found,) = endings(scenario(17, 5, 1.0), [0.3], LOOKED_AT, seed=8)
    power_of = {way: (getattr(found, way).pvalues < 0.05).mean() for way in ("fixed", "obeying", "ignoring")}
    assert power_of["fixed"] > 0.9
    # The same sweeps: what is lost is a share of them, seldom above 3 % if 1.5 % is the truth.
    assert power_of["fixed"] - power_of["obeying"] <= at_most(0.015, LOOKED_AT)
    assert power_of["obeying"] <= power_of["ignoring"]
    assert found.obeying.saved.mean() > 0.2
    assert found.fixed.saved.max() == 0


def test_the_committed_table_says_how_it_was_made():
    assert "python -m dev.simulations.fixed --sweeps 4000 --seed 0" in REPORT.read_text(encoding="utf-8")
