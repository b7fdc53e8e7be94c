"""A line of progress below the output on a terminal; a few plain lines elsewhere."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from threading import RLock
from typing import Any

from capvec.run.progress import Progress, Tally, Work

# Control sequences of the VT100, which every terminal emulator of today knows.
_ERASE_BELOW = "\x1b[J"
"""From the cursor to the end of the screen."""
_MAKE_ROOM = "\x1bD\x1b[A"
"""Down and up again, in the same column: on the last row, going down scrolls the screen."""
_SAVE, _RESTORE = "\x1b7", "\x1b8"
_NEXT_ROW = "\x1b[B\r"
_LOG_WIDTH = 100
_SPARSE_S = 10.0
"""Between two lines of a log on work other than trials."""


def can_redraw(tty: bool, environ: Mapping[str, str] = os.environ) -> bool:
    """Whether a line can be redrawn: on a capable terminal, outside of continuous integration.

    Some continuous integration provides a terminal, but keeps everything in a log; it is recognised by the variables
    that pytest checks.
    """
    logged = any(environ.get(name) for name in ("CI", "BUILD_NUMBER"))
    return tty and not logged and environ.get("TERM", "dumb") != "dumb"


class StatusLine:
    """A line on the row below the cursor, which stays where the next text belongs.

    A half-written row, such as the letters of pytest's tests, continues undisturbed. Erasing everything below the
    cursor is enough even if the terminal became narrower or the user pressed a key.
    """

    def __init__(self, write: Callable[[str], Any]) -> None:
        """Take a function that writes to the terminal without buffering."""
        self._write = write
        self._shown = False

    def show(self, text: str) -> None:
        """Replace the line by this text, which must be shorter than a row, since a wrapped line can scroll."""
        self._write(f"{_ERASE_BELOW}{_MAKE_ROOM}{_SAVE}{_NEXT_ROW}{text}{_RESTORE}")
        self._shown = True

    def hide(self) -> None:
        """Erase the line; call this before anything else is written."""
        if self._shown:
            self._write(_ERASE_BELOW)
            self._shown = False


class ProgressDisplay:
    """Shows the progress of trials, or of other work."""

    def __init__(
        self,
        write: Callable[[str], Any],
        *,
        live: bool,
        at_a_time: int = 1,
        trouble: Callable[[], str] = str,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Show nothing yet.

        Args:
            write: writes to the terminal or the log, at once.
            live: whether to redraw a line as trials end; if not, a line is written after each quarter of them, and at
                most every few seconds after parts of other work.
            at_a_time: how many trials run in parallel.
            trouble: what does not answer at the moment; empty if all does.
            clock: in seconds.
        """
        self._lock, self._trouble = RLock(), trouble
        self._write, self._clock, self._at_a_time = write, clock, at_a_time
        self._status = StatusLine(write) if live else None
        self._progress: Progress | None = None
        self._quarters, self._written = 0, 0.0

    def update(self, tally: Tally | Work) -> None:
        """Show a tally that has changed; the first call for what is counted, before any has ended, starts the clock."""
        with self._lock:
            now = self._clock()
            if self._progress is None or self._progress.tally.what != tally.what:
                self._progress = Progress.begin(tally, now, at_a_time=self._at_a_time)
                self._quarters, self._written = 0, now
            self._progress = self._progress.at(tally, now)
            if self._status is None and self._is_due(tally, now):
                self._written = now
                self._write(f"{self._progress.line(_LOG_WIDTH)}\n")
            self.redraw()

    def _is_due(self, tally: Tally | Work, now: float) -> bool:
        """Whether a log gets a line."""
        before, self._quarters = self._quarters, 4 * tally.done // tally.total if tally.total else 0
        if isinstance(tally, Work):
            return now - self._written >= _SPARSE_S
        return self._quarters > before

    def say(self, line: str) -> None:
        """Write a line that stays."""
        with self.out_of_the_way():
            self._write(f"{line}\n")
        self.redraw()

    def redraw(self) -> None:
        """Show the line again after it was hidden, or because the trouble has changed."""
        with self._lock:
            if self._status is not None and self._progress is not None and self._progress.tally.total:
                # The last column stays free: terminals differ in where they leave the cursor there.
                width = shutil.get_terminal_size().columns - 1
                self._status.show(self._progress.line(width, self._trouble()))

    def hide(self) -> None:
        """Erase the line."""
        with self._lock:
            if self._status is not None:
                self._status.hide()

    @contextmanager
    def out_of_the_way(self) -> Iterator[None]:
        """Erase the line; until the context ends, no other thread shows it."""
        with self._lock:
            self.hide()
            yield


@contextmanager
def progress_on_stdout(*, at_a_time: int, trouble: Callable[[], str] = str) -> Iterator[ProgressDisplay]:
    """Show the progress of a command's trials on stdout; a terminal is clean at the end.

    Args:
        at_a_time: how many trials run in parallel.
        trouble: what does not answer at the moment; empty if all does.
    """

    def write(text: str) -> None:
        print(text, end="", flush=True)

    display = ProgressDisplay(write, live=can_redraw(sys.stdout.isatty()), at_a_time=at_a_time, trouble=trouble)
    try:
        yield display
    finally:
        display.hide()
