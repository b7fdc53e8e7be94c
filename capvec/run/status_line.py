"""A line of progress below all that is printed, on a terminal; plain lines, few of them, anywhere else."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from capvec.run.progress import Progress, Tally

# Control sequences of the VT100, which every terminal emulator of today knows.
_ERASE_BELOW = "\x1b[J"
"""From the cursor to the end of the screen."""
_MAKE_ROOM = "\x1bD\x1b[A"
"""Down and up again, in the same column: on the last row, going down scrolls the screen."""
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_NEXT_ROW = "\x1b[B\r"
_LOG_WIDTH = 100


def can_redraw(tty: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a line may redraw itself: on a terminal that knows how, with somebody before it.

    Continuous integration keeps all that is written in a log, and some of it lends a terminal; it is known by the
    variables that pytest goes by.
    """
    logged = any(environ.get(name) for name in ("CI", "BUILD_NUMBER"))
    return tty and not logged and environ.get("TERM", "dumb") != "dumb"


class StatusLine:
    """A line on the row below the cursor, which stays where the next text belongs.

    So what is half written there, such as the letters of pytest's tests, goes on as if nothing was below; and to erase
    whatever is below the cursor is enough even if the terminal has become narrower or somebody pressed a key.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Take what writes to the terminal, at once."""
        self._write = write
        self._shown = False

    def show(self, text: str) -> None:
        """Draw the text in place of what was there. It must be shorter than a row: one that wraps may scroll."""
        self._write(f"{_ERASE_BELOW}{_MAKE_ROOM}{_SAVE}{_NEXT_ROW}{text}{_RESTORE}")
        self._shown = True

    def hide(self) -> None:
        """Erase it; to be done before anything else is written."""
        if self._shown:
            self._write(_ERASE_BELOW)
            self._shown = False


class ProgressDisplay:
    """Shows how the trials go on."""

    def __init__(
        self,
        write: Callable[[str], Any],
        *,
        live: bool,
        at_a_time: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            write: writes to the terminal or the log, at once.
            live: whether a line is redrawn as trials end; if not, one is written at each quarter of the way.
            at_a_time: how many trials run side by side.
            clock: in seconds.
        """
        self._write, self._clock, self._at_a_time = write, clock, at_a_time
        self._status = StatusLine(write) if live else None
        self._progress: Progress | None = None
        self._quarters = 0

    def update(self, tally: Tally) -> None:
        """Show the tally, whenever it has changed. The time begins with the first call, before a trial has ended."""
        now = self._clock()
        if self._progress is None:
            self._progress = Progress.begin(tally, now, at_a_time=self._at_a_time)
        self._progress = self._progress.at(tally, now)
        quarters = 4 * tally.done // tally.total if tally.total else 0
        if self._status is None and quarters > self._quarters:
            self._write(f"{self._progress.line(_LOG_WIDTH)}\n")
        self._quarters = quarters
        self.redraw()

    def say(self, line: str) -> None:
        """Write a line of its own, which stays."""
        self.hide()
        self._write(f"{line}\n")
        self.redraw()

    def redraw(self) -> None:
        """Show the line again after it was hidden."""
        if self._status is not None and self._progress is not None and self._progress.tally.total:
            # A column stays free: in the last one, terminals differ in where the cursor is.
            self._status.show(self._progress.line(shutil.get_terminal_size().columns - 1))

    def hide(self) -> None:
        """Erase the line so that something else can be written, or because the trials are over."""
        if self._status is not None:
            self._status.hide()


@contextmanager
def progress_on_stdout(*, at_a_time: int) -> Iterator[ProgressDisplay]:
    """What a command shows while its trials run, so many at a time; at the end nothing of it is left on a terminal."""

    def write(text: str) -> None:
        print(text, end="", flush=True)

    display = ProgressDisplay(write, live=can_redraw(sys.stdout.isatty()), at_a_time=at_a_time)
    try:
        yield display
    finally:
        display.hide()
