"""The hooks of the process that owns the study: send trials to workers, record outcomes, judge and report them."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from capvec.errors import StorageFault, UsageError
from capvec.pytest_plugin.gates import gate_reports
from capvec.pytest_plugin.junit import junit_elsewhere, tell_junit
from capvec.pytest_plugin.other_plugins import parameter_of, refuse_multiplied, refuse_none
from capvec.records import Outcome, TrialId
from capvec.results.results import Results
from capvec.run.session import StudySession
from capvec.signals import finishing


class Controller:
    """Registered for one session, in xdist's controller or in the only process."""

    def __init__(self, study: StudySession, report: Callable[[Results], Sequence[str]]) -> None:
        """Take a prepared session, and what writes its reports and returns the closing lines of the terminal."""
        self._study, self._report = study, report
        self._closing: Sequence[str] = ("the run did not finish",)
        self._file = ""
        """The file part of the trials' node ids."""
        self._all_read = True
        """Whether every file of tests could be read; pytest shows what was wrong with one."""
        self._results: Results | None = None
        self._reported = True
        """Whether the disk took the report."""

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["capvec"] = json.dumps(self._study.payload.to_json())

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._expect(ids)

    @pytest.hookimpl(tryfirst=True)
    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if reason := getattr(report, "capvec_refused", None):  # by a worker
            raise pytest.UsageError(reason)
        self._all_read = self._all_read and not report.failed

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect([item.nodeid for item in session.items])

    def _expect(self, node_ids: Sequence[str]) -> None:
        planned = self._study.payload.plan.trials
        trials = {node: trial for node in node_ids if (trial := self._trial(node)) is not None}
        try:
            refuse_multiplied(filter(None, map(parameter_of, node_ids)), (str(trial.id) for trial in planned))
            if self._all_read:
                refuse_none(len(trials), len(planned))
        except UsageError as error:
            raise pytest.UsageError(str(error)) from None
        self._study.recorder.expect(trials.values())
        self._file = next((node.partition("::")[0] for node in trials), self._file)

    def _trial(self, node_id: str) -> TrialId | None:
        """The trial that a test runs; None for a test that runs none."""
        spec = self._study.payload.plan.trial(parameter_of(node_id))
        return None if spec is None else spec.id

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._results is not None:
            return  # the report of a gate
        with finishing():  # a trial is on record everywhere or nowhere
            try:
                self._record(report)
            except StorageFault as fault:
                self._study.stop(str(fault))

    def _record(self, report: pytest.TestReport) -> None:
        if result := getattr(report, "capvec", None):
            self._study.recorder.record(Outcome.from_json(result))
        elif report.failed and (trial := self._trial(report.nodeid)) is not None:
            self._study.recorder.record_crash(trial, report.longreprtext)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge after the last trial, and report the gates while plugins that count tests still listen."""
        interrupted = False
        try:
            result = yield
            self._study.ask_battery()
            return result
        except (KeyboardInterrupt, pytest.exit.Exception):
            interrupted = True
            raise
        finally:
            results = self._finish(interrupted=interrupted)
            tell_junit(session.config, results)
            if results.completeness.expected:
                for report in gate_reports(results, self._file):
                    # pytest computes percentages from this number, and gates were not collected.
                    session.testscollected += report.when == "call"
                    session.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> Generator[None, object, object]:
        refused = []
        try:
            with junit_elsewhere(session.config):
                yield
        except StorageFault as fault:
            self._reported, refused = False, [str(fault)]
        self._end(session)
        self._closing = (*self._closing, *refused)
        return None

    def _end(self, session: pytest.Session) -> None:
        """Let the session end as its trials did."""
        if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            return
        results = self._results
        if results is None:  # stopped before the first trial
            results = self._finish(interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED)
        if results.completeness.stopped and session.exitstatus == pytest.ExitCode.INTERRUPTED:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED  # by xdist, which ends so when its workers stop
        if not (results.good and self._reported) and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finish(self, *, interrupted: bool) -> Results:
        with finishing():
            return self._judge(interrupted=interrupted and not self._study.stopped)

    def _judge(self, *, interrupted: bool) -> Results:
        self._results = self._study.finish(interrupted=interrupted)
        try:
            self._closing = self._report(self._results)
        except StorageFault as fault:
            self._reported, folder = False, self._results.plan.folder
            self._closing = (
                f"{self._results.completeness}",
                f"No report: {fault}. Then: capvec report {folder}",
            )
        return self._results

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("capvec")
        for line in self._closing:
            terminalreporter.line(line)
