"""The hooks of the process that owns the study: deal out trials, collect outcomes, have them judged and reported."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from typing import Any

import pytest

from capvec.pytest_plugin.gates import gate_reports
from capvec.records import Outcome
from capvec.results.results import Results
from capvec.run.session import StudySession


class Controller:
    """Registered in the controller, or in the only process there is, for the time of one session."""

    def __init__(self, study: StudySession, report: Callable[[Results], Sequence[str]]) -> None:
        """Listen to the session of a study.

        Args:
            study: prepared.
            report: writes the reports, and says what the terminal shows.
        """
        self._study, self._report = study, report
        self._closing: Sequence[str] = ("the run did not finish",)
        self._file = ""
        """What the node ids of the trials begin with."""
        self._results: Results | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["capvec"] = json.dumps(self._study.payload().to_json())

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self._expect(ids)

    @pytest.hookimpl(trylast=True)
    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self._expect([item.nodeid for item in session.items])

    def _expect(self, ids: Sequence[str]) -> None:
        self._study.expect(ids)
        trials = (node for node in ids if "::test_trial[" in node)
        self._file = next((node.partition("::")[0] for node in trials), self._file)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if self._results is not None:
            return  # a gate's
        if result := getattr(report, "capvec", None):
            self._study.record(Outcome.from_json(result))
        elif report.failed:
            self._study.record_crash(report.nodeid, report.longreprtext)

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self, session: pytest.Session) -> Generator[None, object, object]:
        """Judge when the last trial is in, and report the gates while those who count tests still listen."""
        interrupted = False
        try:
            return (yield)
        except (KeyboardInterrupt, pytest.exit.Exception):
            interrupted = True
            raise
        finally:
            results = self._finish(interrupted=interrupted)
            if results.completeness.expected:
                for report in gate_reports(results, self._file):
                    # One test more than were collected: pytest reckons per cents by that.
                    session.testscollected += report.when == "call"
                    session.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            return
        results = self._results
        if results is None:  # stopped before the first trial
            results = self._finish(interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED)
        if not results.good and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def _finish(self, *, interrupted: bool) -> Results:
        self._results = self._study.finish(interrupted=interrupted)
        self._closing = self._report(self._results)
        return self._results

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("capvec")
        for line in self._closing:
            terminalreporter.line(line)
