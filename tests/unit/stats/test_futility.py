"""The chances that decide on a stop for futility."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from capvec.records import Interval
from capvec.stats.futility import chances, exclusion_chance, is_futile, predictive_power
from capvec.stats.intervals import clustered

pytestmark = pytest.mark.unit


@given(st.floats(-4, 4), st.floats(0.05, 0.95), st.sampled_from([0.05, 0.0125]))
@settings(max_examples=30, deadline=None)
def test_predictive_power_is_conditional_power_averaged_over_what_the_data_leave(z, share, level):
    end = stats.norm.isf(level / 2)

    def conditional(drift):
        """B(1) given B(t) = z√t, when its drift is known: normal with mean z√t + drift·(1 − t), variance 1 − t."""
        law = stats.norm(z * share**0.5 + drift * (1 - share), (1 - share) ** 0.5)
        return law.sf(end) + law.cdf(-end)

    known = stats.norm(z / share**0.5, share**-0.5)  # the drift, from a flat prior
    grid = np.linspace(*known.interval(1 - 1e-9), 4001)
    average = integrate.simpson(conditional(grid) * known.pdf(grid), x=grid)
    assert predictive_power(z, share, level) == pytest.approx(average, abs=1e-4)


def test_the_chance_of_excluding_is_what_new_data_give():
    # Differences of 40 tasks with one attempt more to come, normal instead of counts: see how often the interval fits.
    generator = np.random.default_rng(0)
    now, spread, tasks = 0.03, 0.5, 40
    half = spread / tasks**0.5 * 1.959964
    chance = exclusion_chance(now, Interval(now - half, now + half), 0.5, 0.15)
    # Each task's true difference is known from now up to spread; the mean after as much again is their average.
    truth = generator.normal(now, spread / tasks**0.5, 200_000)
    end = (now + generator.normal(truth, spread / tasks**0.5)) / 2
    found = (np.abs(end) + half * 0.5**0.5 <= 0.15).mean()
    assert chance == pytest.approx(found, abs=0.005)


def test_an_interval_within_the_margin_excludes_and_one_that_will_stay_too_wide_never_will():
    moved = np.array([0.4, -0.4] * 20)
    interval = clustered(moved.tolist(), 5)
    assert chances(moved, 5, 40, 0.5, 0.05, interval.high)[1] == 1.0
    assert chances(moved, 5, 40, 0.5, 0.05, interval.high - 0.01)[1] < 1.0
    assert exclusion_chance(0.0, Interval(-0.5, 0.5), 0.5, 0.15) == 0.0


def test_futile_is_what_has_neither_verdict_before_it():
    answers = {
        (predictive, excluding): is_futile(predictive, excluding)
        for predictive, excluding in product((0.05, 0.5), (0.05, 0.5, 1.0))
    }
    assert [pair for pair, futile in answers.items() if futile] == [(0.05, 0.05), (0.05, 1.0)]
    assert not is_futile(None, None)
