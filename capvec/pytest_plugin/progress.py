"""The hooks that keep a line of progress below what pytest prints, where somebody watches.

In a log there is none: pytest's letters and per cents say how far it is. Nor is there with `-s` or live logging, when
anything may be printed in between; pytest leaves its own per cents out with `-s`, too.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from capvec.run.progress import Tally
from capvec.run.status_line import ProgressDisplay, can_redraw


def progress_of(config: pytest.Config, tally: Callable[[], Tally]) -> ProgressHooks | None:
    """The hooks for this session, to be registered in the controller; None where there is to be no line.

    Args:
        config: of the session.
        tally: counts what came in and what is to come.
    """
    reporter: Any = config.pluginmanager.get_plugin("terminalreporter")
    if reporter is None or not can_redraw(bool(reporter.isatty)):
        return None
    live_log = config.pluginmanager.has_plugin("logging-plugin") and (
        config.getini("log_cli") or config.getoption("log_cli_level") is not None
    )
    if live_log or config.getoption("capture", "no") == "no":
        return None
    terminal = config.get_terminal_writer()

    def write(text: str) -> None:
        terminal.write_raw(text, flush=True)  # raw: pytest reckons with the width of what it wrote itself

    workers = getattr(config.option, "numprocesses", None) or 1
    return ProgressHooks(tally, ProgressDisplay(write, live=True, at_a_time=workers))


class ProgressHooks:
    """Takes the line away before pytest writes anything, and puts it back afterwards."""

    def __init__(self, tally: Callable[[], Tally], display: ProgressDisplay) -> None:
        self._tally, self._display = tally, display
        self._running = False

    @pytest.hookimpl(wrapper=True, trylast=True)
    def pytest_runtestloop(self) -> Generator[None, object, object]:
        self._running = True
        try:
            return (yield)
        finally:
            self._running = False
            self._display.hide()

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logstart(self) -> Generator[None, None, None]:
        with self._out_of_the_way():
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> Generator[None, None, None]:
        # After the report of a worker that died, xdist has more to say, and no hook for it.
        of_a_phase = report.when in {"setup", "call", "teardown"}
        with self._out_of_the_way(come_back=of_a_phase):
            yield

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_logfinish(self) -> Generator[None, None, None]:
        with self._out_of_the_way():
            yield

    @pytest.hookimpl(optionalhook=True, tryfirst=True)
    def pytest_testnodedown(self) -> None:
        self._display.hide()

    @contextmanager
    def _out_of_the_way(self, *, come_back: bool = True) -> Iterator[None]:
        self._display.hide()
        yield
        if self._running and come_back:
            self._display.update(self._tally())
