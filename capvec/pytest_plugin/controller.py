"""The hooks of the process that owns the study: it deals the plan out, takes the outcomes in, and judges."""

from __future__ import annotations

import json
from collections.abc import Generator, Sequence
from typing import Any

import pytest

from capvec.pytest_plugin.gates import gate_reports
from capvec.records import Outcome
from capvec.run.session import SessionResult, StudySession


class Controller:
    """Registered in the controller, or in the only process there is, for the time of one session."""

    def __init__(self, study: StudySession) -> None:
        self._study = study
        self._file = ""
        """What the node ids of the trials begin with."""
        self._ending: SessionResult | None = None

    @pytest.hookimpl(optionalhook=True)
    def pytest_configure_node(self, node: Any) -> None:
        node.workerinput["capvec"] = json.dumps(self._study.handout().to_json())

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
        if self._ending is not None:
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
            self._ending = self._study.finish(interrupted=interrupted)
            if self._ending.trials.expected:
                for report in gate_reports(self._ending, self._file):
                    # One test more than were collected: pytest reckons per cents by that.
                    session.testscollected += report.when == "call"
                    session.config.hook.pytest_runtest_logreport(report=report)

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, session: pytest.Session) -> None:
        if session.exitstatus == pytest.ExitCode.INTERNAL_ERROR:
            return
        if self._ending is None:  # stopped before the first trial
            self._ending = self._study.finish(interrupted=session.exitstatus == pytest.ExitCode.INTERRUPTED)
        if not self._ending.good and session.exitstatus == pytest.ExitCode.OK:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("capvec")
        for line in self._study.closing_lines():
            terminalreporter.line(line)
