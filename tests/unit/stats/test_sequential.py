"""When a config is looked at, and when it stops."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from capvec.records import Interval, Outcome
from capvec.stats.intervals import clustered
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import sign_flip
from capvec.stats.sequential import chances, exclusion_chance, is_futile, predictive_power, schedule, sequential_test

pytestmark = pytest.mark.unit

TASKS = [f"task{number:02d}" for number in range(12)]
MANY = [f"task{number:02d}" for number in range(24)]


def blocks_of(attempts, tasks=TASKS):
    return [(task, attempt) for attempt in range(1, attempts + 1) for task in tasks]


def arm(config, status, blocks):
    """The outcomes of a config; `status` says which, of (task, attempt)."""
    return {
        (task, attempt): Outcome("r", task, config, 1, 1.0, attempt, 0,
                                 status(task, attempt))
        for task, attempt in blocks
    }  # fmt: skip


def looked_at(status, base_status, attempts, family=1, tasks=TASKS):
    blocks = blocks_of(attempts, tasks)
    ours, base = arm("c", status, blocks), arm("baseline", base_status, blocks)
    return sequential_test("c", ours, base, blocks, schedule(len(tasks), attempts), comparisons=family)


def solved(*_):
    return "solved"


def unsolved(*_):
    return "unsolved"


# ------------------------------------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ("tasks", "attempts", "looks"),
    [
        (17, 1, (9, 13, 17)),  # half and three quarters of 17 are 8.5 and 12.75
        (40, 2, (40, 60, 80)),
        (17, 5, (34, 51, 68, 85)),  # one round of five is less than a third
        (12, 3, (12, 24, 36)),
        (8, 1, (6, 8)),  # half would be four tasks, of which the least p is 2⁻³
        (6, 1, (6,)),
        (5, 9, (45,)),  # five tasks can never reject
    ],
)
def test_looks_follow_rounds_or_halves_and_quarters_once_six_tasks_are_in(tasks, attempts, looks):
    assert schedule(tasks, attempts) == looks


@given(st.integers(1, 100), st.integers(1, 12))
def test_looks_go_forward_and_the_last_sees_everything(tasks, attempts):
    looks = schedule(tasks, attempts)
    assert list(looks) == sorted(set(looks))
    assert looks[-1] == tasks * attempts
    # Lan and DeMets' rule has spent nothing worth a look before a third.
    assert all(3 * look >= tasks * attempts for look in looks)


# ------------------------------------------------------------------------------------------------ efficacy


def test_a_config_that_solves_what_the_baseline_does_not_stops_at_the_first_look_that_can_say_so():
    # 12 tasks that all move one way: p = 2/2¹² = 0.00049; a third of the trials may spend 2 − 2Φ(1.96·√3) = 0.00069.
    alone = looked_at(solved, unsolved, 3)
    assert (alone.decision, len(alone.analyses), alone.planned) == ("efficacy", 1, 3)
    assert alone.pvalue == pytest.approx(2**-11)
    assert alone.stopped
    # Among four, 2 − 2Φ(2.498·√3) = 0.000015 there, and 2 − 2Φ(2.498·√1.5) = 0.0022 after two thirds.
    among = looked_at(solved, unsolved, 3, family=4)
    assert (among.decision, len(among.analyses)) == ("efficacy", 2)
    assert among.analyses[0].boundary is None
    assert holm([among.pvalue, 1, 1, 1])[0] < 0.05


def test_harm_stops_as_soon_as_help():
    found = looked_at(unsolved, solved, 3)
    assert (found.decision, found.analyses[0].difference) == ("efficacy", -1.0)
    assert found.pvalue == looked_at(solved, unsolved, 3).pvalue


def test_what_comes_after_a_stop_changes_nothing():
    late = looked_at(lambda _, attempt: "solved" if attempt == 1 else "unsolved", unsolved, 3)
    assert late == looked_at(solved, unsolved, 3)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_stop_for_efficacy_is_always_one_that_holm_rejects(ours, theirs, family):
    tasks = TASKS[:8]

    def status(bits):
        return lambda task, attempt: "solved" if bits >> (tasks.index(task) * 2 + attempt - 1) & 1 else "unsolved"

    found = looked_at(status(ours), status(theirs), 2, family, tasks)
    if found.decision == "efficacy":
        assert holm([found.pvalue] + [1.0] * (family - 1))[0] < 0.05
    if found.decision == "futility":
        assert found.pvalue == 1.0


def test_a_single_look_gives_the_plain_test():
    tasks = TASKS[:5]
    found = looked_at(lambda task, _: "solved" if task != "task03" else "unsolved", unsolved, 2, tasks=tasks)
    assert (found.decision, len(found.analyses)) == ("end", 1)
    assert found.pvalue == sign_flip([1, 1, 1, 0, 1]).pvalue
    assert not found.stopped
    assert found.words == ""


# ------------------------------------------------------------------------------------------------ what a look sees


def test_a_look_waits_for_every_trial_of_its_blocks_on_both_sides():
    blocks = blocks_of(3)
    ours, base = arm("c", solved, blocks), arm("baseline", unsolved, blocks)
    for missing in (ours, base):
        kept = missing.pop((TASKS[-1], 1))
        found = sequential_test("c", ours, base, blocks, schedule(12, 3))
        assert found.analyses == ()
        assert found.pvalue == 1.0
        assert "nothing can be rejected yet" in found.words
        missing[kept.task, kept.attempt] = kept
    assert sequential_test("c", ours, base, blocks, schedule(12, 3)).decision == "efficacy"


def test_errors_are_on_record_and_enter_no_difference():
    def faulty(task, attempt):
        return "error" if task in TASKS[:2] and attempt == 1 else "solved"

    look = looked_at(faulty, unsolved, 3).analyses[0]
    assert (look.tasks, look.difference) == (10, 1.0)
    assert look.pvalue == sign_flip([1.0] * 10).pvalue
    nothing = looked_at(lambda *_: "error", unsolved, 3)
    assert [look.decision for look in nothing.analyses] == ["go on", "go on", "end"]
    assert nothing.pvalue == 1.0


# ------------------------------------------------------------------------------------------------ futility


def test_a_config_that_does_what_the_baseline_does_stops_once_effects_are_excluded():
    # z = 0: after a third 2Φ(−1.96/√2) = 0.17 is left of the chance, after two thirds 2Φ(−1.96·√2) = 0.006. On 24 tasks
    # that all stand still X is 1 − 0.025^(1/24) = 0.142, within 0.15.
    found = looked_at(solved, solved, 3, tasks=MANY)
    assert [look.decision for look in found.analyses] == ["go on", "futility"]
    assert found.analyses[0].predictive == pytest.approx(2 * stats.norm.cdf(-1.959964 / 2**0.5))
    assert found.analyses[1].predictive == pytest.approx(2 * stats.norm.cdf(-1.959964 * 2**0.5), abs=1e-6)
    assert found.analyses[1].excluding == 1.0
    assert found.pvalue == 1.0
    assert "neither improves nor harms" in found.words


def test_a_verdict_of_absence_that_is_in_reach_is_waited_for():
    # Two of 24 tasks up and two down after half: ± t₀.₉₇₅(23)·√((4 + 1)/26/25) = ± 0.1814, beyond 0.15. At the end
    # ± 0.1814·√½ leaves room for 0.0217 either way, and the centre moves by 0.1814/1.96·√½ = 0.0655: 2Φ(0.332) − 1.
    found = looked_at(
        lambda task, _: "unsolved" if task in MANY[:2] else "solved",
        lambda task, _: "unsolved" if task in MANY[2:4] else "solved",
        2,
        tasks=MANY,
    )
    assert found.analyses[0].decision == "go on"
    assert found.analyses[0].predictive < 0.1
    assert found.analyses[0].excluding == pytest.approx(0.260, abs=0.001)


@pytest.mark.parametrize(("tasks", "excluding"), [(22, 0.0), (23, 1.0)])
def test_a_verdict_of_absence_that_the_tasks_are_too_few_for_is_not_waited_for(tasks, excluding):
    # 0.85²² = 0.028: a share of 0.15 of tasks like these would be missed too often, with however many attempts.
    found = looked_at(solved, solved, 3, tasks=MANY[:tasks])
    assert [look.decision for look in found.analyses] == ["go on", "futility"]
    assert found.analyses[1].excluding == excluding


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
