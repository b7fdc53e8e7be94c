"""The recorder of a session: what is on record, what is to come, and what a resumed session keeps."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capvec.errors import UsageError
from capvec.plan.plan import Plan, Settings
from capvec.records import Config, TrialSpec
from capvec.results.ledger import Ledger
from capvec.run.recorder import TrialRecorder
from capvec.run.trial import error_outcome
from capvec.steering import Steer

pytestmark = pytest.mark.unit

BASELINE = Config("baseline", "baseline")


@pytest.fixture
def plan(tmp_path):
    trials = tuple(TrialSpec(task, BASELINE.name, 1, 7) for task in "abc")
    return Plan("r", tmp_path, (), (BASELINE,), trials, Settings("m", "bash-block", "brief", 1, 1, 0.7))


@pytest.fixture
def ledger(tmp_path):
    return Ledger(tmp_path / "trials.jsonl")


def outcome_of(plan, number, status):
    return replace(error_outcome(plan.run, plan.trials[number], BASELINE, "x"), outcome=status)


def test_outcomes_are_on_disk_at_once_and_come_back_in_the_plans_order(plan, ledger):
    recorder = TrialRecorder(plan, ledger, print)
    recorder.expect(trial.id for trial in plan.trials)
    second, first = outcome_of(plan, 1, "solved"), outcome_of(plan, 0, "unsolved")
    for outcome in (second, first):
        recorder.record(outcome)
        assert ledger.read()[-1] == outcome
    assert recorder.outcomes == (first, second)
    tally = recorder.tally()
    assert (tally.solved, tally.unsolved, tally.errors, tally.left) == (1, 1, 0, 1)
    assert recorder.completeness((), interrupted=True).missing == (plan.trials[2].id,)


def test_a_resumed_session_keeps_valid_outcomes_and_counts_only_its_own(plan, ledger):
    for number, status in enumerate(("solved", "error")):
        ledger.append(outcome_of(plan, number, status))
    recorder = TrialRecorder(plan, ledger, print)
    assert [outcome.trial for outcome in recorder.finished] == ["a-baseline-t1"]
    recorder.expect(trial.id for trial in plan.trials)
    recorder.record(recorder.finished[0])  # a worker hands it back without running it
    assert (recorder.tally().done, recorder.tally().left) == (0, 2)
    assert len(ledger.path.read_text().splitlines()) == 2
    # The error was to be replaced, so it counts only once its trial has run again.
    assert recorder.completeness((), interrupted=False).missing == (plan.trials[1].id, plan.trials[2].id)


def test_a_crash_is_an_error_with_the_last_line_of_its_report_and_only_where_there_is_no_outcome(plan, ledger):
    recorder = TrialRecorder(plan, ledger, print)
    recorder.record(outcome_of(plan, 0, "solved"))
    recorder.record_crash(plan.trials[0].id, "the worker died")
    recorder.record_crash(plan.trials[1].id, "Traceback\nthe worker died\n")
    recorder.record_crash(plan.trials[2].id, "")
    assert [(one.outcome, one.error) for one in recorder.outcomes] == [
        ("solved", "x"),
        ("error", "the worker died"),
        ("error", "the test ended without an outcome"),
    ]


def test_a_trial_that_ran_with_another_seed_is_refused(plan, ledger):
    ledger.append(replace(outcome_of(plan, 0, "solved"), seed=8))
    with pytest.raises(UsageError, match=r"seed 8.*--seed"):
        TrialRecorder(plan, ledger, print)


def test_trials_that_left_a_trajectory_and_no_line_are_named(plan, ledger):
    (folder := plan.trajectory(plan.trials[0].id).parent).mkdir(parents=True)
    for trial in plan.trials[:2]:
        plan.trajectory(trial.id).touch()
    (folder / "another-trial-t1.json").touch()
    ledger.append(outcome_of(plan, 0, "solved"))
    assert TrialRecorder(plan, ledger, print).unrecorded == (plan.trials[1].id,)


def test_a_steered_trial_without_its_receipts_is_kept_by_no_session(plan, ledger):
    steered = replace(BASELINE, steers=(Steer(1, "d", 1.0),))
    replied = replace(outcome_of(plan, 0, "solved"), steps=1)
    for outcome in (replace(replied, steps=0), replace(replied, outcome="error")):
        ledger.append(outcome)
        TrialRecorder(replace(plan, configs=(steered,)), ledger, print)
    ledger.append(replied)
    with pytest.raises(UsageError, match=r"1 trial without the receipts of their steers .* nothing shows"):
        TrialRecorder(replace(plan, configs=(steered,)), ledger, print)
