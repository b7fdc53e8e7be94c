"""A trial's sandbox may be opened while others run: the trial finds it as one that was opened in its turn."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from support.plans import plan_of
from support.scripted_sandbox import ScriptedProvider

from capvec.errors import SandboxUnavailable
from capvec.records import CommandResult
from capvec.run.trial import TrialRunner
from dev.agent.scripted_model import ScriptedModel

pytestmark = pytest.mark.unit
SCRIPT = {"bash -c /tests/test.sh": CommandResult("", 0)}
REWARD = {"/logs/verifier/reward.txt": b"1"}
LIMIT_S = 10.0


class Counting(ScriptedProvider):
    """Knows which sandboxes are open, and of which trials; another thread may wait for one of a trial."""

    def __init__(self, *, idle: bool = True) -> None:
        super().__init__(SCRIPT, REWARD)
        self.idle, self.open_now, self.threads = idle, [], {}
        self.changed = threading.Condition()

    def idles(self, task) -> bool:
        return self.idle and task is not None

    @contextmanager
    def open(self, task, *, run, trial):
        with super().open(task, run=run, trial=trial) as sandbox:
            with self.changed:
                self.open_now.append(trial)
                self.threads[trial] = threading.get_ident()
                self.changed.notify_all()
            try:
                yield sandbox
            finally:
                with self.changed:
                    self.open_now.remove(trial)
                    self.changed.notify_all()

    def wait_for(self, trial) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: str(trial) in self.open_now, LIMIT_S)


class Waiting(ScriptedModel):
    """Answers once the sandbox of a trial is open."""

    def __init__(self, provider, trial) -> None:
        super().__init__(["DONE"])
        self._provider, self._trial = provider, trial

    def complete(self, messages, **asked):
        self._provider.wait_for(self._trial)
        return super().complete(messages, **asked)


def test_the_next_sandbox_is_opened_while_a_trial_runs_and_taken_in_its_turn(tmp_path) -> None:
    plan, provider = plan_of(2, 1, 1, folder=tmp_path), Counting()
    one, two = plan.trials
    runner = TrialRunner(plan, Waiting(provider, two.id), provider, ahead=1)
    assert runner.run(one, two).outcome == "solved"
    assert provider.threads[str(one.id)] == threading.get_ident() != provider.threads[str(two.id)]
    assert len(provider.opened) == 2
    runner.close()
    assert provider.open_now == []
    again = TrialRunner(plan, ScriptedModel(["DONE"]), provider, ahead=1)
    assert again.run(two).outcome == "solved"
    again.close()
    assert provider.open_now == []


def test_a_sandbox_in_which_programs_of_the_task_run_is_opened_in_its_turn(tmp_path) -> None:
    plan, provider = plan_of(2, 1, 1, folder=tmp_path), Counting(idle=False)
    runner = TrialRunner(plan, ScriptedModel(["DONE", "DONE"]), provider, ahead=1)
    for spec, following in zip(plan.trials, (plan.trials[1], None), strict=True):
        assert runner.run(spec, following).outcome == "solved"
    runner.close()
    assert set(provider.threads.values()) == {threading.get_ident()}


def test_a_sandbox_that_is_lost_before_its_turn_is_no_fault_of_the_trial(tmp_path) -> None:
    plan, provider = plan_of(2, 1, 1, folder=tmp_path), Counting()
    one, two = plan.trials
    runner = TrialRunner(plan, Waiting(provider, two.id), provider, ahead=1)
    runner.run(one, two)
    provider.opened[-1].close()
    later = ScriptedModel(["DONE"])
    object.__setattr__(runner, "model", later)
    outcome = runner.run(two)
    runner.close()
    assert (outcome.outcome, outcome.tries, len(provider.opened)) == ("solved", 1, 3)
    assert provider.open_now == []


def test_a_fault_at_the_end_of_a_trial_is_its_error_though_its_sandbox_is_removed_later(tmp_path) -> None:
    plan, provider = plan_of(1, 1, 1, folder=tmp_path), Counting()

    class Losing(ScriptedModel):
        def complete(self, messages, **asked):
            provider.opened[0].check = fault
            return super().complete(messages, **asked)

    def fault() -> None:
        raise SandboxUnavailable("Docker was restarted")

    runner = TrialRunner(plan, Losing(["DONE"]), provider, ahead=1)
    outcome = runner.run(plan.trials[0])
    runner.close()
    assert (outcome.outcome, provider.open_now) == ("error", [])
    assert "Docker was restarted" in outcome.error


def test_many_trials_at_a_time_leave_nothing_open(tmp_path) -> None:
    plan, provider, at_a_time = plan_of(20, 2, 2, folder=tmp_path), Counting(), 4
    runner = TrialRunner(plan, ScriptedModel(["DONE"] * len(plan.trials)), provider, ahead=at_a_time)
    following = (*plan.trials[at_a_time:], *[None] * at_a_time)
    with ThreadPoolExecutor(at_a_time) as pool:
        outcomes = list(pool.map(runner.run, plan.trials, following))
    runner.close()
    assert len(provider.opened) == len(plan.trials)
    assert provider.open_now == []
    assert {outcome.task for outcome in outcomes} == {task.name for task in plan.tasks}
