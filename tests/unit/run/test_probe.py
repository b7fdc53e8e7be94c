"""Which trials `--plan` probes, and what it keeps of them."""

from __future__ import annotations

import stat
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.plans import plan_of, shard_of
from support.scripted_sandbox import ScriptedProvider

from capvec.plan.option_parsers import Shard
from capvec.records import CommandResult
from capvec.run import probe as probing
from capvec.run.probe import choose_trials, run_probe
from capvec.run.trial import TrialRunner
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 12), st.integers(1, 5), st.integers(1, 40))
def test_a_probe_takes_different_trials_of_the_plan_and_every_config_in_turn(tasks, configs, attempts, jobs):
    plan = plan_of(tasks, configs, attempts)
    selected = choose_trials(plan, jobs)
    assert len(set(selected)) == len(selected) <= len(plan.trials)
    assert set(selected) <= set(plan.trials)
    assert len(selected) == min(len(plan.trials), max(4, jobs, min(2 * jobs, 16)))
    counts = Counter(trial.config for trial in selected)
    assert len(counts) == min(configs, len(selected))
    assert max(counts.values()) - min(counts.values()) <= 1
    assert len({trial.task for trial in selected}) == min(tasks, len(selected))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 12), st.integers(1, 6), st.integers(1, 5), st.integers(1, 8), st.integers(1, 40))
def test_a_probe_of_a_shard_takes_trials_of_the_shard(tasks, configs, attempts, of, jobs):
    part = shard_of(plan_of(tasks, configs, attempts), Shard(1, min(of, tasks * attempts)))
    selected = choose_trials(part, jobs)
    assert len(set(selected)) == len(selected) == min(len(part.trials), max(4, jobs, min(2 * jobs, 16)))
    assert set(selected) <= set(part.trials)
    assert {trial.config for trial in selected} >= {config.name for config in part.configs[: len(selected)]}


@pytest.fixture
def runner(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")
    (tmp_path / "tests" / "test.sh").chmod(stat.S_IRWXU)
    done = {"bash -c /tests/test.sh": CommandResult("", 0)}

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
