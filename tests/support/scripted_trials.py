"""A pytest plugin (`-p support.scripted_trials`): trials whose ends are given, with capvec's own hooks around them.

It tests what capvec shows and counts while trials run. Environment variables define the trials:

* `TRIALS`: names of tasks, each of which says how its only trial ends: `solved1`, `unsolved2`, `error3`, `skip4`,
  `crash5` (its process ends) or `press6` (Ctrl-C).
* `GATES`: a JSON list of gates: the condition, whether it is met, and why.
* `SECONDS`: duration of a trial.
* `SAY`: name of a task whose trial makes the session print a line when it ends.
"""

from __future__ import annotations

import json
import os
import signal
import time
from pathlib import Path

import pytest

from capvec.errors import InfrastructureError, UsageError
from capvec.plan.plan import Plan, Settings
from capvec.pytest_plugin.controller import Controller
from capvec.pytest_plugin.items import TrialItems
from capvec.pytest_plugin.other_plugins import refuse_other_plugins
from capvec.pytest_plugin.plugin import speaker
from capvec.pytest_plugin.progress import progress_of
from capvec.records import Config, Outcome, TrialSpec
from capvec.results.gates import GateResult
from capvec.results.ledger import Ledger
from capvec.results.results import Results
from capvec.run.payload import WorkerPayload
from capvec.run.recorder import TrialRecorder
from support.results import results_of

TEST_FILE = "from support.scripted_trials import outcome\n\n\ndef test_trial(outcome):\n    pass\n"
"""It imports the fixture, since capvec's fixture of that name would take precedence over a plugin's."""
CONFIG = Config("baseline", "baseline")
_outcome = pytest.StashKey[Outcome]()


class ScriptedSession:
    """A prepared session whose ledger is `trials.jsonl` here."""

    def __init__(self, say) -> None:
        specs = tuple(TrialSpec(name, CONFIG.name, 1, 0) for name in os.environ["TRIALS"].split())
        plan = Plan("r", Path(), (), (CONFIG,), specs, Settings("m", "bash-block", "brief", 1, 1, 0.7))
        self.payload = WorkerPayload(plan, "", "")
        self.recorder = TalkativeRecorder(plan, Ledger(Path("trials.jsonl")), say)
        self.results = None
        self.stopped = ""

    def ask_battery(self) -> None:
        """There is none."""

    def finish(self, *, interrupted: bool = False) -> Results:
        assert self.results is None, "finished twice"
        self.results = results_of(
            self.payload.plan,
            self.recorder.outcomes,
            gates=[GateResult(*gate) for gate in json.loads(os.environ.get("GATES", "[]"))],
            completeness=self.recorder.completeness((), interrupted=interrupted),
        )
        return self.results


class TalkativeRecorder(TrialRecorder):
    """Says a line when the trial of the task `SAY` has ended."""

    def __init__(self, plan, ledger, say) -> None:
        super().__init__(plan, ledger, say)
        self._say = say

    def record(self, outcome: Outcome) -> None:
        super().record(outcome)
        if outcome.task == os.environ.get("SAY"):
            self._say(f"{outcome.task} has ended")


@pytest.hookimpl(tryfirst=True)
def pytest_sessionstart(session):
    session.config.pluginmanager.register(TrialItems(), "capvec-items")
    if not hasattr(session.config, "workerinput"):
        try:
            refuse_other_plugins(session.config)
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        study = ScriptedSession(speaker(session.config))
        session.config.pluginmanager.register(
            Controller(study, lambda results: [str(results.completeness)]), "capvec-controller"
        )
        if progress := progress_of(session.config, study.recorder.tally):
            session.config.pluginmanager.register(progress, "capvec-progress")


def pytest_generate_tests(metafunc):
    if "outcome" not in metafunc.fixturenames:
        return
    names = os.environ["TRIALS"].split()
    metafunc.parametrize("outcome", names, ids=[f"{name}-{CONFIG.name}-t1" for name in names], indirect=True)


@pytest.fixture
def outcome(request):
    end = request.param.rstrip("0123456789")
    if end == "skip":
        pytest.skip("not wanted")
    if end == "press":
        os.kill(os.getppid() if "PYTEST_XDIST_WORKER" in os.environ else os.getpid(), signal.SIGINT)
    if end == "crash":
        os._exit(3)
    time.sleep(float(os.environ.get("SECONDS", "0")))
    request.node.stash[_outcome] = Outcome("r", request.param, CONFIG.name, None, None, 1, 0, end)
    if end == "error":
        raise InfrastructureError("the engine went away")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    result = item.stash.get(_outcome, None)
    if result is not None and call.when != "teardown" and (report.failed or call.when == "call"):
        report.capvec = result.to_json()
        item.user_properties[:] = [("trial", result.trial), ("outcome", result.outcome)]
        report.longrepr = "the engine went away" if report.failed else report.longrepr
    return report
