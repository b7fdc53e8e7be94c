"""Power and what it takes: against the figures that the design names, enumeration, and the simulation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import special, stats

from capvec.stats.pairing import sign_flip_pvalues
from capvec.stats.pooled import fisher_exact
from capvec.stats.power import (
    SweepDesign,
    mean_logit,
    minimum_detectable_effect,
    needed_attempts,
    needed_tasks,
    observed_spread,
    power,
    simulated_solved,
)

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(("n", "expected"), [(20, 0.11), (40, 0.25), (80, 0.50)])
def test_fishers_power_for_20_against_35_percent(n, expected):
    # The figures that the report has always quoted.
    assert power(SweepDesign(1, n, 0.20, spread=0.0), 0.15, "pooled") == pytest.approx(expected, abs=0.005)


def test_the_pooled_power_is_the_sum_over_all_tables_that_reject():
    n, one, two = 7, 0.2, 0.8
    expected = sum(
        stats.binom.pmf(x, n, one) * stats.binom.pmf(y, n, two)
        for x in range(n + 1)
        for y in range(n + 1)
        if fisher_exact(y, n, x, n).pvalue < 0.05
    )
    assert power(SweepDesign(7, 1, one, spread=0.0), two - one, "pooled") == pytest.approx(expected, abs=1e-9)


def test_tasks_that_differ_make_pooled_fisher_timid():
    # The arms share their tasks, so their totals move together; the test takes that for chance.
    alike, different = (power(SweepDesign(17, 5, 0.4, spread), 0.0, "pooled") for spread in (0.0, 2.0))
    assert different < alike / 2 < 0.025


def test_the_paired_power_of_single_attempts_is_the_sign_tests():
    # Without spread, 8 tasks of one attempt: a task's difference is ±1 with p(1−q), q(1−p), else 0. With d of 8 not
    # zero and all of one sign the p-value is 2/2^d, below 0.05 from 6; with one against, 2·(1 + d)/2^d, from 8 on not.
    p, q = 0.1, 0.9
    up, down = q * (1 - p), p * (1 - q)
    expected = sum(
        stats.multinomial.pmf([a, b, 8 - a - b], 8, [up, down, 1 - up - down])
        for a in range(9)
        for b in range(9 - a)
        if a + b and stats.binomtest(a, a + b).pvalue < 0.05
    )
    assert power(SweepDesign(8, 1, p, spread=0.0), q - p) == pytest.approx(expected, abs=4 * 0.5 / 2000**0.5)


def test_five_tasks_can_never_see_anything():
    # 2/2^5 = 0.0625 is the least p-value there is.
    design = SweepDesign(5, 100, 0.4)
    assert power(design, 0.5) == 0
    assert minimum_detectable_effect(design) is None
    assert needed_attempts(design, 0.5) is None


def test_the_detectable_effect_is_where_the_power_crosses_the_goal():
    design = SweepDesign(17, 5, 0.4)
    rise, fall = minimum_detectable_effect(design), minimum_detectable_effect(design, falls=True)
    assert power(design, rise) >= 0.8 > power(design, rise - 0.02)
    assert power(design, fall) >= 0.8 > power(design, fall + 0.02)
    assert minimum_detectable_effect(replace(design, level=0.01)) > rise


def test_what_an_effect_needs_is_the_least_that_is_enough():
    design = SweepDesign(17, 1, 0.4)
    attempts, tasks = needed_attempts(design, 0.25), needed_tasks(design, 0.25)
    assert power(replace(design, attempts=attempts), 0.25) >= 0.8 > power(replace(design, attempts=attempts - 1), 0.25)
    assert power(replace(design, tasks=tasks), 0.25) >= 0.8 > power(replace(design, tasks=tasks - 2), 0.25)


def test_a_mean_logit_gives_its_rate_on_average():
    draws = np.random.default_rng(0).standard_normal(200_000)
    for rate, spread in ((0.1, 2.0), (0.5, 1.0), (0.9, 3.0)):
        assert special.expit(mean_logit(rate, spread) + spread * draws).mean() == pytest.approx(rate, abs=0.005)


@pytest.mark.parametrize("spread", [0.0, 1.0, 2.0])
def test_the_spread_between_tasks_is_found_again(spread):
    generator = np.random.default_rng(1)
    rates = special.expit(mean_logit(0.4, spread) + spread * generator.standard_normal(2000))
    found = observed_spread(generator.binomial(5, rates).tolist(), [5] * 2000)
    assert found == pytest.approx(spread, abs=0.25)


def test_single_attempts_cannot_tell_the_spread():
    assert observed_spread([1, 0, 1], [1, 1, 1]) is None


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SweepDesign(0, 1, 0.5), "0 tasks, 1 attempts"),
        (lambda: SweepDesign(3, 1, 1.0), "base rate 1"),
        (lambda: power(SweepDesign(3, 1, 0.9), 0.2), "cannot move by"),
    ],
)
def test_impossible_designs_are_refused(make, said):
    with pytest.raises(ValueError, match=said):
        make()


def test_a_power_does_not_depend_on_what_was_computed_before_it():
    design = SweepDesign(9, 3, 0.4)
    rates, levels = (0.2, -0.1, 0.3), (0.05, 0.01)
    once = {(effect, level): power(replace(design, level=level), effect) for effect in rates for level in levels}
    for effect in reversed(rates):
        for level in levels:
            solved = simulated_solved(design, (0.4, 0.4 + effect), np.random.default_rng(20261125))
            rejected = sign_flip_pvalues(solved[1] - solved[0]) < level
            assert once[effect, level] == power(replace(design, level=level), effect) == rejected.mean()
