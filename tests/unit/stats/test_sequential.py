"""When a config is analysed, and when it stops."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from capvec.records import Outcome
from capvec.stats.multiplicity import holm
from capvec.stats.pairing import sign_flip
from capvec.stats.sequential import schedule, sequential_test

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


def analysed(status, base_status, attempts, comparisons=1, tasks=TASKS):
    blocks = blocks_of(attempts, tasks)
    ours, base = arm("c", status, blocks), arm("baseline", base_status, blocks)
    return sequential_test("c", ours, base, blocks, schedule(len(tasks), attempts), comparisons=comparisons)


def solved(*_):
    return "solved"


def unsolved(*_):
    return "unsolved"


# ------------------------------------------------------------------------------------------------ when


@pytest.mark.parametrize(
    ("tasks", "attempts", "sizes"),
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
def test_analyses_follow_rounds_or_halves_and_quarters_once_six_tasks_are_in(tasks, attempts, sizes):
    assert schedule(tasks, attempts) == sizes


@given(st.integers(1, 100), st.integers(1, 12))
def test_looks_go_forward_and_the_last_sees_everything(tasks, attempts):
    sizes = schedule(tasks, attempts)
    assert list(sizes) == sorted(set(sizes))
    assert sizes[-1] == tasks * attempts
    # Lan and DeMets' rule has spent nothing worth an analysis before a third.
    assert all(3 * analysis >= tasks * attempts for analysis in sizes)


# ------------------------------------------------------------------------------------------------ efficacy


def test_a_config_that_solves_what_the_baseline_does_not_stops_at_the_first_analysis_that_can_say_so():
    # 12 tasks that all move one way: p = 2/2¹² = 0.00049; a third of the trials may spend 2 − 2Φ(1.96·√3) = 0.00069.
    alone = analysed(solved, unsolved, 3)
    assert (alone.decision, len(alone.analyses), alone.planned) == ("efficacy", 1, 3)
    assert alone.pvalue == pytest.approx(2**-11)
    assert alone.stopped
    # Among four, 2 − 2Φ(2.498·√3) = 0.000015 there, and 2 − 2Φ(2.498·√1.5) = 0.0022 after two thirds.
    among = analysed(solved, unsolved, 3, comparisons=4)
    assert (among.decision, len(among.analyses)) == ("efficacy", 2)
    assert among.analyses[0].boundary is None
    assert holm([among.pvalue, 1, 1, 1])[0] < 0.05


def test_harm_stops_as_soon_as_help():
    found = analysed(unsolved, solved, 3)
    assert (found.decision, found.analyses[0].difference) == ("efficacy", -1.0)
    assert found.pvalue == analysed(solved, unsolved, 3).pvalue


def test_what_comes_after_a_stop_changes_nothing():
    late = analysed(lambda _, attempt: "solved" if attempt == 1 else "unsolved", unsolved, 3)
    assert late == analysed(solved, unsolved, 3)


@given(st.integers(0, 2**16 - 1), st.integers(0, 2**16 - 1), st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_a_stop_for_efficacy_is_always_one_that_holm_rejects(ours, theirs, comparisons):
    tasks = TASKS[:8]

    def status(bits):
        return lambda task, attempt: "solved" if bits >> (tasks.index(task) * 2 + attempt - 1) & 1 else "unsolved"

    found = analysed(status(ours), status(theirs), 2, comparisons, tasks)
    if found.decision == "efficacy":
        assert holm([found.pvalue] + [1.0] * (comparisons - 1))[0] < 0.05
    if found.decision == "futility":
        assert found.pvalue == 1.0


def test_a_single_analysis_gives_the_plain_test():
    tasks = TASKS[:5]
    found = analysed(lambda task, _: "solved" if task != "task03" else "unsolved", unsolved, 2, tasks=tasks)
    assert (found.decision, len(found.analyses)) == ("end", 1)
    assert found.pvalue == sign_flip([1, 1, 1, 0, 1]).pvalue
    assert not found.stopped
    assert found.words == ""


# ------------------------------------------------------------------------------------------------ what an analysis uses


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

    analysis = analysed(faulty, unsolved, 3).analyses[0]
    assert (analysis.tasks, analysis.difference) == (10, 1.0)
    assert analysis.pvalue == sign_flip([1.0] * 10).pvalue
    nothing = analysed(lambda *_: "error", unsolved, 3)
    assert [analysis.decision for analysis in nothing.analyses] == ["go on", "go on", "end"]
    assert nothing.pvalue == 1.0


# ------------------------------------------------------------------------------------------------ futility


def test_a_config_that_does_what_the_baseline_does_stops_once_effects_are_excluded():
    # z = 0: after a third 2Φ(−1.96/√2) = 0.17 is left of the chance, after two thirds 2Φ(−1.96·√2) = 0.006. On 24 tasks
    # that all stand still X is 1 − 0.025^(1/24) = 0.142, within 0.15.
    found = analysed(solved, solved, 3, tasks=MANY)
    assert [analysis.decision for analysis in found.analyses] == ["go on", "futility"]
    assert found.analyses[0].predictive == pytest.approx(2 * stats.norm.cdf(-1.959964 / 2**0.5))
    assert found.analyses[1].predictive == pytest.approx(2 * stats.norm.cdf(-1.959964 * 2**0.5), abs=1e-6)
    assert found.analyses[1].excluding == 1.0
    assert found.pvalue == 1.0
    assert "neither improves nor harms" in found.words


def test_a_verdict_of_absence_that_is_in_reach_is_waited_for():
    # Two of 24 tasks up and two down after half: ± t₀.₉₇₅(23)·√((4 + 1)/26/25) = ± 0.1814, beyond 0.15. At the end
    # ± 0.1814·√½ leaves room for 0.0217 either way, and the centre moves by 0.1814/1.96·√½ = 0.0655: 2Φ(0.332) − 1.
    found = analysed(
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
    found = analysed(solved, solved, 3, tasks=MANY[:tasks])
    assert [analysis.decision for analysis in found.analyses] == ["go on", "futility"]
    assert found.analyses[1].excluding == excluding
