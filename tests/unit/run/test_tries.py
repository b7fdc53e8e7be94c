"""Trials that begin anew after a fault of the instrument: how often, from what, and what is kept of each try."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import replace

import pytest
from support.plans import plan_of
from support.scripted_sandbox import ScriptedProvider

from capvec.errors import EngineUnavailable, SandboxUnavailable
from capvec.records import CommandResult, Outcome
from capvec.run.instrument import Instrument, Notice, Patience
from capvec.run.trial import TrialRunner, error_outcome
from capvec.run.tries import OUTAGES, TrialRepeater
from capvec.signals import stopping_on_signals
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit


class Faulty:
    """A model that fails in place of some replies, and is then out for some seconds; it notes what it was asked."""

    def __init__(self, *replies: str | tuple[Exception, float]) -> None:
        self._replies, self.seeds, self.conversations = list(replies), [], []
        self.now = self._back_at = 0.0

    def complete(self, messages, *, seed, **asked):
        self.seeds.append(seed)
        self.conversations.append(len(messages))
        reply = self._replies.pop(0)
        if isinstance(reply, str):
            return ScriptedModel([reply]).complete(messages, seed=seed, **asked)
        error, seconds = reply
        self._back_at = self.now + seconds
        raise error

    def check(self):
        if self.now < self._back_at:
            raise EngineUnavailable("refused")

    def sleep(self, seconds):
        self.now += seconds


def fault(number=1, out_s=0.0):
    return EngineUnavailable(f"no answer {number}"), out_s


@pytest.fixture
def trials(tmp_path):
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test.sh").write_text("true\n")
    script = {"bash -c /tests/test.sh": CommandResult("", 0), "ls": CommandResult("a\n", 0)}

    def trials(*replies, retries=1, limit=5.0, reward=b"1"):
        """A repeater, its only trial, and the model and sandboxes of it."""
        plan = plan_of(1, 1, 1, folder=tmp_path)
        provider = ScriptedProvider(script, {"/logs/verifier/reward.txt": reward})
        model = Faulty(*replies)
        checks = {"Docker": provider.check, "engine": model.check}
        patience = Patience(retries, limit, limit)
        instrument = Instrument(checks, patience, Notice(None), clock=lambda: model.now, sleep=model.sleep)
        repeater = TrialRepeater(TrialRunner(plan, model, provider, {}), instrument, retries)
        return repeater, plan.trials[0], model, provider

    return trials


LS = "```bash\nls\n```"


def test_a_trial_that_was_judged_is_not_tried_again(trials):
    for reward, outcome in ((b"1", "solved"), (b"0", "unsolved")):
        repeater, spec, model, _ = trials("DONE", retries=3, reward=reward)
        result = repeater.run(spec)
        assert (result.outcome, result.lost, result.tries, len(model.seeds)) == (outcome, (), 1, 1)


class Stopping(Faulty):
    """A model during whose first replies this process is stopped, as by Ctrl-Z, and continued."""

    stops = 1

    def complete(self, messages, **asked):
        if self.stops:
            self.stops -= 1
            process = os.getpid()
            subprocess.run(["sh", "-c", f"kill -STOP {process}; sleep 0.2; kill -CONT {process}"], check=True)
        return super().complete(messages, **asked)


def test_a_trial_whose_process_was_stopped_begins_anew_since_its_time_limits_went_on(trials):
    repeater, spec, _, _ = trials()
    model = Stopping("DONE", "DONE")
    stopped = replace(repeater, runner=replace(repeater.runner, model=model))
    with stopping_on_signals():
        result = stopped.run(spec)
        assert (result.outcome, result.tries, len(model.seeds)) == ("solved", 2, 2)
        assert result.lost[0].error.startswith("ProcessStopped: this process was stopped and continued (Ctrl-Z")


def test_a_process_that_is_stopped_time_and_again_takes_no_try_of_a_trial(trials):
    """Nor where what came of it was a fault: the last one alone is the trial's own, and is tried again once."""
    repeater, spec, _, _ = trials(retries=1)
    model = Stopping("DONE", fault(), "DONE", fault(), "DONE")
    model.stops = 3
    with stopping_on_signals():
        result = replace(repeater, runner=replace(repeater.runner, model=model)).run(spec)
    assert (result.outcome, result.tries, len(model.seeds)) == ("solved", 5, 5)
    assert [one.error.partition(":")[0] for one in result.lost] == ["ProcessStopped"] * 3 + ["EngineUnavailable"]


def test_an_error_is_tried_again_from_the_start_and_the_trial_counts_once(trials, tmp_path):
    repeater, spec, model, provider = trials(LS, fault(), "DONE")
    result = repeater.run(spec)
    assert (result.outcome, result.error, result.tries, result.away, result.steps) == ("solved", "", 2, None, 1)
    (lost,) = result.lost
    assert (lost.error, lost.away, lost.waited_s) == ("EngineUnavailable: no answer 1", None, 0)
    # The same seed, a conversation and a sandbox of its own.
    assert model.seeds[0] == model.seeds[2] != model.seeds[1]
    assert model.conversations[0] == model.conversations[2] < model.conversations[1]
    assert len(provider.opened) == 2
    assert provider.cleared == [(repeater.runner.plan.run, str(spec.id))]
    kept = json.loads((tmp_path / "lost" / f"{spec.id}-try1.json").read_text())
    assert kept["extra"]["outcome"]["error"] == lost.error
    assert (tmp_path / "trajectories" / f"{spec.id}.json").exists()
    assert Outcome.from_json(json.loads(json.dumps(result.to_json()))) == result


@pytest.mark.parametrize("retries", [0, 1, 3])
def test_an_error_that_stays_is_tried_so_often_and_no_more(trials, retries):
    repeater, spec, _, _ = trials(*[fault(number) for number in range(5)], retries=retries)
    result = repeater.run(spec)
    assert (result.outcome, result.tries, result.away) == ("error", retries + 1, None)
    assert result.error == f"EngineUnavailable: no answer {retries}"
    assert [lost.error[-1] for lost in result.lost] == [str(number) for number in range(retries)]
    assert not repeater.instrument.notice.reason


def test_tries_that_outages_took_do_not_count_as_retries(trials):
    repeater, spec, _, _ = trials(fault(1, 2), fault(2, 2), fault(3), "DONE", retries=1)
    result = repeater.run(spec)
    assert (result.outcome, result.tries) == ("solved", 4)
    assert [lost.away for lost in result.lost] == ["engine", "engine", None]
    assert all(lost.waited_s >= 2 for lost in result.lost[:2])


def test_a_trial_that_takes_the_instrument_with_it_each_time_is_left_in_its_error(trials):
    repeater, spec, _, _ = trials(*[fault(number, 1) for number in range(9)], retries=0)
    result = repeater.run(spec)
    assert (result.outcome, result.tries, result.away) == ("error", OUTAGES + 1, None)
    assert not repeater.instrument.notice.reason


def test_what_does_not_come_back_stops_the_run(trials):
    repeater, spec, model, _ = trials(fault(out_s=1e9))
    result = repeater.run(spec)
    assert (result.outcome, result.away, result.lost) == ("error", "engine", ())
    assert "no answer 1; the engine did not come back within 5 s: refused" in result.error
    assert repeater.run_unless_stopped(spec) is None
    assert len(model.seeds) == 1


def test_docker_that_is_out_is_told_from_an_engine_that_is_out(trials):
    repeater, spec, _, provider = trials(fault(), limit=0.0)
    provider.away = SandboxUnavailable("no socket")
    assert repeater.run(spec).away == "Docker"


def test_an_error_of_an_earlier_session_that_counts_is_not_tried_again(trials):
    repeater, spec, model, _ = trials()
    earlier = error_outcome("r", spec, repeater.runner.plan.config(spec.config), "Fault: earlier")
    repeater.runner.finished[spec.id] = earlier
    assert repeater.run(spec) == earlier
    assert not model.seeds


def test_a_try_without_a_conversation_leaves_no_file_of_an_earlier_session(trials, tmp_path):
    repeater, spec, _, provider = trials()
    stale = tmp_path / "trajectories" / f"{spec.id}.json"
    stale.parent.mkdir()
    stale.write_text("{}")
    provider.script = {}

    def refuse(*_, **__):
        raise SandboxUnavailable("no such image")

    provider.open = refuse
    assert repeater.run(spec).tries == 2
    assert not stale.exists()
    assert not (tmp_path / "lost").exists()
