"""The simulation of trials an hour, against what can be computed by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.run.capacity import Capacity, EngineSpeed, ReplyWork, TrialWork, capacities, simulate, trial_work

pytestmark = pytest.mark.unit

FLAT = EngineSpeed({1: 0.01}, 1000.0, most_rows=1000)
"""A step takes as long, however many rows it has."""
TRIAL = TrialWork((ReplyWork(100, 20, 0.5), ReplyWork(50, 30, 0.25)), around_s=2.0)
ALONE = 0.1 + 0.05 + 50 * 0.01 + 0.75 + 2.0


def test_one_worker_takes_the_sum_of_everything():
    found = simulate([TRIAL] * 3, 1, FLAT, cores=4)
    assert found.seconds == pytest.approx(3 * ALONE)
    assert found.ends == pytest.approx((ALONE, 2 * ALONE, 3 * ALONE))
    assert found.engine_s == pytest.approx(0.65)
    assert found.sandbox_s == pytest.approx(2.75)


def test_a_reply_may_take_time_beside_its_tokens():
    slow = EngineSpeed({1: 0.01}, 1000.0, 1000, reply_s=0.3)
    assert simulate([TRIAL], 1, slow, cores=1).seconds == pytest.approx(ALONE + 0.6)


def test_workers_that_never_meet_are_as_fast_as_one_each():
    """Steps of any size take the same, prompts take nothing, and there is a core for each."""
    instant = EngineSpeed({1: 0.01}, math.inf, 1000)
    for workers in (1, 5, 20):
        assert simulate([TRIAL] * 20, workers, instant, cores=20).seconds == pytest.approx(
            20 / workers * (ALONE - 0.15)
        )
    assert [one.saturated for one in capacities([TRIAL] * 20, instant, 64, (1, 16, 64))] == ["", "", ""]


def test_sandboxes_that_are_full_take_all_core_seconds_by_the_cores():
    work = [TrialWork((), float(seconds)) for seconds in (1, 2, 3, 4, 5, 6)]
    assert simulate(work, 6, FLAT, cores=1).seconds == pytest.approx(21.0)
    # Two cores are full until the longest is alone, which one core ends: 1 to 5 s take 2 s of each core and more.
    assert simulate([TrialWork((), 3.0)] * 8, 8, FLAT, cores=2).seconds == pytest.approx(12.0)
    (found,) = capacities([TrialWork((), 3.0)], FLAT, 2, (16,))
    assert found == Capacity(16, pytest.approx(2 / 3.0 * 3600), "sandboxes")


def test_an_engine_whose_step_grows_with_its_rows_makes_as_many_tokens_however_many_workers():
    linear = EngineSpeed({1: 0.01, 2: 0.02, 64: 0.64}, math.inf, 64)
    work = [TrialWork((ReplyWork(0, 100, 0.0),), 0.0)] * 32
    for workers in (1, 8, 32):
        assert simulate(work, workers, linear, cores=1).seconds == pytest.approx(32.0)
    (found,) = capacities(work, linear, 1, (32,))
    assert found.saturated == "engine"


def test_an_engine_with_one_row_takes_requests_one_after_the_other():
    single = EngineSpeed({1: 0.01}, 1000.0, most_rows=1)
    work = [TrialWork((ReplyWork(100, 20, 0.0),), 0.0)] * 5
    found = simulate(work, 5, single, cores=1)
    assert found.ends == pytest.approx([0.3, 0.6, 0.9, 1.2, 1.5])
    assert found.engine_s == pytest.approx(0.9)  # waiting included


def test_prompts_that_saturate_the_engine_take_all_their_tokens():
    prompts = EngineSpeed({1: 0.0}, 1000.0, 64)
    assert simulate([TrialWork((ReplyWork(500, 1, 0.0),), 0.0)] * 10, 10, prompts, 1).seconds == pytest.approx(5.0)


def test_a_step_between_measured_rows_lies_on_a_line_and_beyond_them_is_no_faster():
    speed = EngineSpeed({1: 0.05, 8: 0.06, 32: 0.054}, 1.0, 32)
    assert [speed.step(rows) for rows in (0, 1, 8, 20, 32)] == pytest.approx([0.05, 0.05, 0.06, 0.057, 0.054])
    assert speed.step(64) == 0.054
    assert EngineSpeed({1: 0.1, 3: 0.3}, 1.0, 9).step(5) == pytest.approx(0.5)
    assert EngineSpeed({4: 0.1}, 1.0, 9).step(7) == 0.1


TRIALS = st.lists(
    st.builds(
        TrialWork,
        st.lists(st.builds(ReplyWork, st.integers(0, 900), st.integers(1, 60), st.floats(0, 3)), max_size=4).map(tuple),
        st.floats(0, 5),
    ),
    min_size=1,
    max_size=25,
)


@settings(max_examples=50, deadline=None)
@given(TRIALS, st.integers(1, 12), st.integers(1, 4), st.integers(1, 6))
def test_a_run_takes_no_longer_than_one_trial_after_the_other_and_no_less_than_any_of_its_parts(
    trials, workers, cores, rows
):
    speed = EngineSpeed({1: 0.01, 6: 0.02}, 1000.0, rows)
    found = simulate(trials, workers, speed, cores)
    assert len(found.ends) == len(trials)
    assert list(found.ends) == sorted(found.ends)
    alone = [simulate([trial], 1, speed, cores).seconds for trial in trials]
    core_s = sum(trial.around_s + sum(reply.commands_s for reply in trial.replies) for trial in trials)
    prompts_s = sum(reply.new_tokens for trial in trials for reply in trial.replies) / 1000
    tokens_s = sum(reply.tokens for trial in trials for reply in trial.replies) * min(
        speed.step(number) / number for number in range(1, rows + 1)
    )
    assert found.seconds <= sum(alone) * (1 + 1e-6) + 1e-6
    assert found.seconds >= max(*alone, core_s / cores, prompts_s + tokens_s) * (1 - 1e-6) - 1e-6


@settings(max_examples=50, deadline=None)
@given(st.integers(1, 30), st.integers(0, 500), st.integers(1, 400), st.floats(0, 9), st.floats(0, 9))
def test_the_work_of_a_trial_adds_up_to_what_was_recorded(steps, extra, tokens, commands_s, around_s):
    prompt = steps * 80 + extra
    work = trial_work(steps, prompt, tokens, commands_s, around_s, opening=80.0)
    assert len(work.replies) == steps
    assert sum(reply.tokens for reply in work.replies) == tokens
    assert sum(reply.commands_s for reply in work.replies) == pytest.approx(commands_s)
    # The prompts, each whole, as they grow evenly.
    whole, all_of = 0, 0
    for reply in work.replies:
        whole += reply.new_tokens
        all_of += whole
    assert all_of == pytest.approx(prompt, abs=steps * steps / 2 + 1)
    anew = trial_work(steps, prompt, tokens, commands_s, around_s, opening=80.0, reuse=False)
    assert sum(reply.new_tokens for reply in anew.replies) == pytest.approx(prompt, abs=steps)


def test_a_trial_without_a_reply_is_only_made_ready_and_removed():
    assert trial_work(0, 0, 0, 0.0, 2.5, 80.0) == TrialWork((), 2.5)
