"""The controller's part of `scripted_trials`: a prepared session that runs no model, with capvec's own hooks."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from capvec.plan.plan import Plan, Settings
from capvec.pytest_plugin.controller import Controller
from capvec.pytest_plugin.preparation import speaker
from capvec.pytest_plugin.progress import progress_of
from capvec.records import Config, Outcome, TrialSpec
from capvec.results.gates import GateResult
from capvec.results.ledger import Ledger
from capvec.results.results import Results
from capvec.run.payload import WorkerPayload
from capvec.run.recorder import TrialRecorder
from capvec.stats.drift import Drift
from capvec.stats.summary import Summary
from support.results import results_of

NO_SUMMARY = Summary((), "baseline", (), (), Drift(0, False, None, None, 0, None), None)
"""Nobody reads one here, and to make one imports parts of SciPy for a second."""


def register(config: pytest.Config, of_trials: Config) -> None:
    """Register the controller and the progress line, as a sweep does."""
    study = ScriptedSession(speaker(config), of_trials)
    config.pluginmanager.register(Controller(study, lambda results: [str(results.completeness)]), "capvec-controller")
    if progress := progress_of(config, study.recorder.tally):
        config.pluginmanager.register(progress, "capvec-progress")


class ScriptedSession:
    """A prepared session whose ledger is `trials.jsonl` here."""

    def __init__(self, say, config: Config) -> None:
        specs = tuple(TrialSpec(name, config.name, 1, 0) for name in os.environ["TRIALS"].split())
        plan = Plan("r", Path(), (), (config,), specs, Settings("m", "bash-block", "brief", 1, 1, 0.7))
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
            summary=NO_SUMMARY,
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
