"""Hooks that keep a line of progress below pytest's output on a terminal.

A log has no such line; pytest's letters and percentages show the progress there. Nor is there one with `-s` or live
logging, when other output may come in between.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from capvec.run.progress import Tally
from capvec.run.status_line import ProgressDisplay, can_redraw


def progress_of(
    config: pytest.Config, tally: Callable[[], Tally], trouble: Callable[[], str] = str
) -> ProgressHooks | None:
    """The hooks to register in the controller; None if this session shows no line.

    Args:
        config: of the session.
        tally: the counts of the trials so far.
        trouble: what does not answer at the moment; empty if all does.
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
        terminal.write_raw(text, flush=True)  # raw: pytest keeps account of the width of its own output

    workers = getattr(config.option, "numprocesses", None) or 1
    return ProgressHooks(tally, ProgressDisplay(write, live=True, at_a_time=workers, trouble=trouble))


class ProgressHooks:
    """Hides the line before pytest writes anything, and shows it again afterwards."""

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
        # After the report of a worker that died, xdist prints more, and offers no hook for that.
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
        with self._display.out_of_the_way():
            yield
            if self._running and come_back:
                self._display.update(self._tally())

    def redraw(self) -> None:
        """Show what does not answer; called from another thread, between what pytest writes."""
        if self._running:
            self._display.redraw()

    def around(self, say: Callable[[str], None]) -> Callable[[str], None]:
        """A function that prints a line as `say` does, from another thread, while the line of progress is hidden."""

        def between(line: str) -> None:
            with self._display.out_of_the_way():
                say(line)

        return between
