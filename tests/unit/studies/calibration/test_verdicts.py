"""Every criterion is met where it should be and fails where it should."""

from __future__ import annotations

from dataclasses import replace

import pytest
from scipy import stats
from support.recorded_calibration import ARMS, ideal, measured, trials

from capvec.results.zero_control import Comparison
from capvec.studies.calibration.verdicts import (
    controls_are_not_detected,
    format_is_no_skill,
    judge,
    negated_lowers,
    positive_control_raises,
    zero_says_the_same,
)

pytestmark = pytest.mark.unit


def test_a_rise_on_eight_tasks_or_more_is_detected():
    # d tasks rise and none falls: two of 2^d patterns of their signs. 2/2^8 = .0078 is under .01, 2/2^7 = .0156 not.
    assert positive_control_raises(measured(trials("baseline", 4), trials("p", 12)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 4), trials("p", 11)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 12), trials("p", 4)), "p").met
    assert not positive_control_raises(measured(trials("baseline", 4)), "p").met


def test_a_rise_is_not_met_when_it_harms_the_families_never_trained_on():
    rise = (trials("baseline", 4), trials("p", 16))
    # Six tasks fall: 2/2^6 = .031 is harm at .05; five: .0625 is not.
    assert not positive_control_raises(measured(*rise, held_out=(trials("baseline", 10), trials("p", 4))), "p").met
    mild = positive_control_raises(measured(*rise, held_out=(trials("baseline", 10), trials("p", 5))), "p")
    assert mild.met
    assert "p = 0.062" in mild.reason


def test_a_verdict_says_when_there_are_too_few_tasks_to_detect_anything():
    verdict = positive_control_raises(measured(trials("baseline", 0, 7), trials("p", 7, 7)), "p")
    assert not verdict.met
    assert "too few: the least p is 0.016" in verdict.reason


def test_the_reverse_must_lower():
    assert negated_lowers(measured(trials("baseline", 12), trials("r", 4)), "r").met
    assert not negated_lowers(measured(trials("baseline", 12), trials("r", 5)), "r").met
    assert not negated_lowers(measured(trials("baseline", 4), trials("r", 12)), "r").met


@pytest.mark.parametrize("count", [1, 4, 10])
def test_as_many_controls_may_be_detected_as_chance_explains_and_no_more(count):
    names = [f"random{k}" for k in range(count)]
    allowed = next(k for k in range(count + 1) if stats.binom.cdf(k, count, 0.05) >= 0.99)
    for detected in (allowed, allowed + 1):
        if detected > count:
            continue
        # 2/2^6 = .031: detected, whichever way. The others are the baseline itself.
        arms = [trials(name, (4 if k % 2 else 16) if k < detected else 10) for k, name in enumerate(names)]
        verdict = controls_are_not_detected(measured(trials("baseline", 10), *arms), names)
        assert verdict.met == (detected == allowed)
        assert f"{detected} of {count} detected" in verdict.reason


def test_a_control_that_was_not_measured_is_not_taken_for_one_that_was_not_detected():
    arms = (trials("baseline", 10), trials("random1", 10))
    assert controls_are_not_detected(measured(*arms), ["random1"]).met
    verdict = controls_are_not_detected(measured(*arms), ["random1", "random2"])
    assert not verdict.met
    assert "1 not measured" in verdict.reason
    assert not controls_are_not_detected(measured(*arms), []).met


def test_one_differing_reply_fails_and_so_does_having_compared_nothing():
    same, moved = Comparison("t", 1, 3, None, False), Comparison("t", 2, 1, None, True)
    verdict = zero_says_the_same([same, moved])
    assert verdict.met
    assert "4 replies to identical conversations compared in 2 trials, 0 differ; 1 trials diverged" in verdict.reason
    assert not zero_says_the_same([same, Comparison("u", 1, 2, 1, False)]).met
    assert not zero_says_the_same([]).met


@pytest.mark.parametrize("metric", ["parse_fail", "no_cmd"])
def test_a_format_that_moves_on_nine_tasks_is_met_and_on_eight_is_not(metric):
    # Two metrics are looked at: 2·2/2^9 = .0078, and 2·2/2^8 = .0156.
    base = trials("baseline", 10)
    for moved in (9, 8):
        moves = [replace(o, config="f", **{metric: int(k < moved)}) for k, o in enumerate(base)]
        assert format_is_no_skill(measured(base, moves), "f").met == (moved == 9)


def test_a_format_that_makes_the_agent_better_is_a_capability_and_fails():
    base = trials("baseline", 4)
    better = trials("f", 10, parse_fail=1)  # six tasks rise: p = 2/2^6 = .031
    worse = trials("f", 0, parse_fail=1)
    verdict = format_is_no_skill(measured(base, better), "f")
    assert not verdict.met
    assert "which would be reported as a capability" in verdict.reason
    assert format_is_no_skill(measured(base, worse), "f").met


def test_an_ideal_instrument_meets_all_five_and_a_dead_one_fails_what_it_should():
    zero = [Comparison("t00", 1, 3, None, False)]
    assert [(v.key, v.met) for v in judge(ideal(), ARMS, zero)] == [(key, True) for key in "abcde"]
    # Hooks that never fire: every config is the baseline.
    dead = measured(*(trials(name, 10) for name in ARMS.names))
    assert [v.key for v in judge(dead, ARMS, zero) if not v.met] == ["a", "b", "e"]
