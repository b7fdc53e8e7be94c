"""How long a plan takes, predicted from a probe."""

from __future__ import annotations

import math

import numpy as np
import pytest
from support.plans import probe_of

from capvec.run.duration import Duration, predict, time_in_words

pytestmark = pytest.mark.unit


def test_equal_trials_predict_their_number_times_their_length():
    # One at a time, 12 of 10 s: 120 s. All alike, and one more with a coefficient of variation of 1: √(1/4/4) = 1/4.
    found = predict(probe_of(whole=[10.0] * 4), 12)
    assert (found.low, found.high) == pytest.approx((120 / math.exp(1.2816 / 4), 120 * math.exp(1.2816 / 4)))


def test_four_at_a_time_take_a_quarter_and_a_little_for_the_end():
    one, four = (predict(probe_of(whole=[10.0] * 4, jobs=jobs), 400) for jobs in (1, 4))
    # 100 rounds, and ¾ of half a trial while workers fall idle.
    assert four.low / one.low == pytest.approx((100 + 0.375) / 400)


def test_trials_that_were_cut_off_count_with_the_time_they_took():
    # 80 s in trials, two of which ended: 40 s each, as for exponential durations.
    found = predict(probe_of(whole=[10.0, 10.0], cut=[30.0, 30.0]), 1)
    assert math.sqrt(found.low * found.high) == pytest.approx(40.0)


def test_where_no_trial_ended_only_a_lower_bound_is_known():
    found = predict(probe_of(cut=[60.0, 60.0]), 10)
    assert (found.low, found.high) == (600.0, None)
    assert found.words == "more than 10 min"


def test_a_probe_that_measured_nothing_predicts_nothing_and_says_why():
    probe = probe_of(failed=[1.0, 1.0])
    assert predict(probe, 10) is None
    words = time_in_words(probe, 10, 5.0)
    assert words.startswith("not known")
    assert "2 of the probe's trials ended in an infrastructure error: t: Fault: why" in words


@pytest.mark.parametrize("shape", [1.0, 4.0])
def test_the_range_holds_about_as_often_as_it_says(shape):
    # Gamma durations of mean 1; the coefficient of variation is 1 or ½. Ten thousand trials take ten thousand.
    draws = np.random.default_rng(0).gamma(shape, 1 / shape, size=(500, 8))
    ranges = [predict(probe_of(whole=row), 10_000) for row in draws]
    assert 0.72 < np.mean([found.low <= 10_000 <= found.high for found in ranges]) < 0.95


@pytest.mark.parametrize(
    ("low", "high", "words"),
    [
        (20.4, 38.2, "about 20 to 38 s"),
        (700, 1100, "about 12 to 18 min"),
        (75, 130, "about 1.2 to 2.2 min"),
        (6000, 9100, "about 1.7 to 2.5 h"),
        (35.2, 35.3, "about 35 s"),
    ],
)
def test_a_duration_reads_as_a_person_would_say_it(low, high, words):
    assert Duration(low, high).words == words
