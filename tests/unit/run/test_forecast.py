"""`--plan`: which trials are probed, what they predict, and what is printed."""

from __future__ import annotations

import math
import stat
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.agent.model import ScriptedModel
from capvec.directions.direction import Direction, random_control
from capvec.plan.options import SweepOptions, parse_controls
from capvec.plan.plan import Plan, Settings, control_configs, interleave, steered_config
from capvec.records import CommandResult, Config, Task
from capvec.run import probe as probing
from capvec.run.assumptions import assumptions_of
from capvec.run.forecast import Duration, detections_of, forecast_lines, predict, time_in_words
from capvec.run.probe import Probe, Probed, choose_trials, run_probe
from capvec.run.trial import TrialRunner
from capvec.sandbox.scripted import ScriptedProvider
from capvec.sandbox.verifier import CLEAR

pytestmark = pytest.mark.unit

DIRECTION = Direction(np.ones((30, 4), np.float32), np.full(30, 10.0))
SETTINGS = Settings("m", "bash-block", "zero-shot", 4, 32, 0.7)


def plan_of(tasks: int, configs: int, attempts: int, controls: str = "", folder: Path = Path("r")) -> Plan:
    steered = [steered_config(DIRECTION, 22, float(alpha)) for alpha in range(1, configs)]
    matched = {"random": [random_control(DIRECTION, number) for number in range(19)]}
    arms = (Config("baseline", "baseline"), *steered)
    arms = (*arms, *control_configs(parse_controls(controls), steered, DIRECTION, matched))
    all_tasks = tuple(Task(f"task-{number}", folder, "Do it.", "0") for number in range(tasks))
    return Plan("r", folder, all_tasks, arms, interleave(all_tasks, arms, attempts, 0), SETTINGS)


def probe_of(whole=(), cut=(), failed=(), jobs=1, seconds=30.0) -> Probe:
    ends = {"whole": whole, "cut": cut, "error": failed}
    trials = [
        Probed("t", took, end, "Fault: why" * (end == "error")) for end, all_of in ends.items() for took in all_of
    ]
    return Probe(tuple(trials), jobs, seconds)


# ------------------------------------------------------------------------------------------------ the probe


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 40))
def test_a_probe_takes_different_trials_of_the_plan_and_every_config_in_turn(tasks, configs, attempts, jobs):
    plan = plan_of(tasks, configs, attempts)
    chosen = choose_trials(plan, jobs)
    assert len(set(chosen)) == len(chosen) <= len(plan.trials)
    assert set(chosen) <= set(plan.trials)
    assert len(chosen) == min(len(plan.trials), max(4, jobs, min(2 * jobs, 16)))
    counts = Counter(trial.config for trial in chosen)
    assert len(counts) == min(configs, len(chosen))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({trial.task for trial in chosen}) == min(tasks, len(chosen))


@pytest.fixture
def runner(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")
    (tmp_path / "tests" / "test.sh").chmod(stat.S_IRWXU)
    done = {f"sh -c {CLEAR}": CommandResult("", 0), "bash /tests/test.sh": CommandResult("", 0)}

    def runner(replies, reward=b"1"):
        files = {"/logs/verifier/reward.txt": reward} if reward else {}
        return TrialRunner(plan_of(6, 1, 1, folder=tmp_path), ScriptedModel(replies), ScriptedProvider(done, files))

    return runner


def test_trials_that_come_to_their_end_are_timed(runner):
    said = []
    probe = run_probe(runner(["DONE"] * 4), 2, said.append)
    assert len(probe.that("whole")) == len(probe.trials) == 4
    assert all(0 < trial.seconds <= probe.seconds for trial in probe.trials)
    assert probe.jobs == 2
    assert "discarded" in said[0]


def test_a_fault_of_the_instrument_is_kept_with_its_reason(runner):
    probe = run_probe(runner(["DONE"] * 4, reward=None), 2, print)
    assert [trial.ended for trial in probe.trials] == ["error"] * 4
    assert "VerifierFault" in probe.trials[0].error


def test_what_outlasts_the_probe_is_cut_off_at_its_next_reply_and_no_fault(runner, monkeypatch):
    monkeypatch.setattr(probing, "END_S", -1.0)
    probe = run_probe(runner(["DONE"] * 4), 2, print)
    assert [(trial.ended, trial.error) for trial in probe.trials] == [("cut", "")] * 4


def test_no_trial_begins_when_the_time_for_beginning_is_over(runner, monkeypatch):
    monkeypatch.setattr(probing, "START_S", -1.0)
    assert run_probe(runner([]), 2, print).trials == ()


# ------------------------------------------------------------------------------------------------ time


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
    assert "2 of the probe's trials ended in an error of the instrument: t: Fault: why" in words


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


# ------------------------------------------------------------------------------------------------ what is printed


def lines_of(plan: Plan, options: SweepOptions | None = None) -> list[str]:
    assumptions = assumptions_of(options or SweepOptions())
    probe = probe_of(whole=[10.0] * 4, jobs=4)
    return list(forecast_lines(plan, assumptions, detections_of(plan, assumptions), probe, 12.0))


def test_too_few_tasks_are_said_first_and_loudly():
    lines = lines_of(plan_of(6, 3, 1), SweepOptions(effect=0.4))
    assert lines[0].startswith("UNDERPOWERED: 6 tasks give no p below 0.031, and 0.025 is needed")
    # The pooled test counts trials, wherever they come from.
    (attempts,) = [line for line in lines if line.startswith("attempts that +0.4 needs")]
    assert "no number" in attempts
    assert int(attempts.split()[-1]) > 1
    said = "\n".join(lines).replace("\n  ", " ")
    assert "2 comparisons" in said
    assert "p < 0.025" in said
    assert "an effect that is alike on all tasks: where it is not, power is less" in said


def test_a_plan_that_is_enough_has_no_warning_and_says_what_it_sees():
    lines = lines_of(plan_of(20, 2, 10), SweepOptions(base_rate=0.5, spread=0.0, effect=0.4))
    assert lines[0] == "plan: 400 trials = 2 configs × 20 tasks × 10 attempts; nothing was run but the probe"
    (seen,) = [line for line in lines if line.startswith("power for +0.4")]
    # Without spread, 200 against 200 trials at 0.5 and 0.9: certain for both tests.
    assert seen.split()[-2:] == ["1.00", "1.00"]


@pytest.mark.parametrize(
    ("tasks", "said"),
    [
        # 0.025 is about 0.541 to the 6th, 0.846 to the 22nd, 0.852 to the 23rd, 0.912 to the 40th power.
        (6, "with 6 tasks no effect below 0.46 can be excluded, however many the attempts; 0.15 takes 23 tasks"),
        (22, "with 22 tasks no effect below 0.16 can be excluded, however many the attempts; 0.15 takes 23 tasks"),
        (40, "effects can be excluded down to 0.09, the share of tasks that none of 40 may show"),
    ],
)
def test_a_plan_says_whether_no_effect_could_be_its_verdict(tasks, said):
    assert f"absence: {said}" in "\n".join(lines_of(plan_of(tasks, 2, 1))).replace("\n  ", " ")


def test_a_plan_with_interim_analyses_says_when_they_are_and_when_there_is_none():
    plan = replace(plan_of(12, 2, 4), sequential=True)
    said = "\n".join(lines_of(plan)).replace("\n  ", " ")
    assert "after 24, 36, 48 of 48 (task, attempt) blocks; " in said
    said = "\n".join(lines_of(replace(plan_of(5, 2, 4), sequential=True))).replace("\n  ", " ")
    assert "after 20 of 20 (task, attempt) blocks: no config can stop early" in said


def test_everything_fits_100_columns_and_matched_controls_share_a_row():
    lines = lines_of(plan_of(13, 3, 1, controls="zero,random:19,negated,prompt"), SweepOptions(effect=0.45))
    assert max(map(len, lines)) <= 100
    assert sum("random × 19" in line for line in lines) == 2
    assert any("and 1 more" in line for line in lines)


def test_a_study_without_a_steered_config_has_no_figures_of_power():
    lines = lines_of(plan_of(6, 1, 1))
    assert lines[-1].startswith("power: no config")
    assert not any("Underpowered" in line for line in lines)
