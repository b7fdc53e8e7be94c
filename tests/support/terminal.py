"""A terminal: what a person sees of a program's output, and programs run on a real pseudo-terminal."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_TOKEN = re.compile(
    r"\x1b\](?P<osc>[^\x07\x1b]*)(?:\x07|\x1b\\)|\x1b\[(?P<args>[\d;?]*)(?P<csi>[A-Za-z])|\x1b(?P<esc>[78D])|(?P<char>.)",
    re.DOTALL,
)
_CUT_OFF = re.compile(r"\x1b(?:\[[\d;?]*|\][^\x07\x1b]*\x1b?)?$")
"""The beginning of a control sequence, at the end of what has come so far."""


class Screen:
    """The part of a VT100 that pytest and capvec use. Any other control sequence fails; add it here."""

    def __init__(self, columns: int = 80, rows: int = 24) -> None:
        self.columns, self.rows = columns, rows
        self.scrolled: list[str] = []
        """Lines that left the screen at the top."""
        self._cells = [[" "] * columns for _ in range(rows)]
        self._row = self._column = 0
        self._saved = (0, 0)
        self._pending = ""

    def write(self, text: str) -> None:
        text = self._pending + text
        whole = match.start() if (match := _CUT_OFF.search(text)) else len(text)
        text, self._pending = text[:whole], text[whole:]
        for token in _TOKEN.finditer(text):
            if token["char"] is not None:
                self._put(token["char"])
            elif token["esc"] is not None:
                {"7": self._save, "8": self._restore, "D": self._down}[token["esc"]]()
            elif token["csi"] is not None:
                self._control(token["csi"], token["args"])

    @property
    def lines(self) -> list[str]:
        """All that can be seen, scrolled lines first, without blank lines at the end."""
        lines = [*self.scrolled, *("".join(row).rstrip() for row in self._cells)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def at_the_edge(self) -> bool:
        """A row is full and the next character begins another: where terminals keep the cursor on the last column."""
        return self._column == self.columns

    def _put(self, char: str) -> None:
        if char == "\r":
            self._column = 0
        elif char == "\n":
            self._column = 0  # as the terminal's driver does on the way, which makes a line feed a new line
            self._down()
        elif char == "\b":
            self._column = max(self._column - 1, 0)
        else:
            assert char.isprintable(), repr(char)
            if self._column == self.columns:
                self._column = 0
                self._down()
            self._cells[self._row][self._column] = char
            self._column += 1

    def _control(self, letter: str, arguments: str) -> None:
        if letter == "A":
            self._row = max(self._row - 1, 0)
        elif letter == "B":
            self._row = min(self._row + 1, self.rows - 1)
        elif letter == "J":
            assert arguments in {"", "0"}
            column = min(self._column, self.columns - 1)
            self._cells[self._row][column:] = [" "] * (self.columns - column)
            for row in range(self._row + 1, self.rows):
                self._cells[row] = [" "] * self.columns
        else:
            assert letter == "m", (letter, arguments)

    def _down(self) -> None:
        if self._row < self.rows - 1:
            self._row += 1
        else:
            self.scrolled.append("".join(self._cells.pop(0)).rstrip())
            self._cells.append([" "] * self.columns)

    def _save(self) -> None:
        self._saved = (self._row, self._column)

    def _restore(self) -> None:
        self._row, self._column = self._saved


@dataclass(frozen=True)
class Seen:
    """The output and the end of a program on a terminal."""

    text: str
    """Everything that it wrote, including control sequences."""
    screen: Screen
    """The screen at the end."""
    moments: tuple[tuple[str, ...], ...]
    """The screen's lines after each piece of output."""
    code: int


def run_on_terminal(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    columns: int = 80,
    rows: int = 24,
    cwd: str | os.PathLike[str] | None = None,
    interrupt: Callable[[str], bool] = lambda _: False,
    timeout_s: float = 60,
) -> Seen:
    """Run a program on a pseudo-terminal of that size.

    Args:
        command: the program and its arguments.
        environ: its environment, without `COLUMNS` and `LINES`, which would hide the terminal's own size.
        columns: of the terminal.
        rows: of the terminal.
        cwd: where it runs.
        interrupt: given all that was written; when it first says True, Ctrl-C is pressed.
        timeout_s: after which the program is killed.
    """
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    # A session of its own, whose terminal this is: so a typed Ctrl-C is a signal to all that run in it.
    leader = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execvp(sys.argv[1], sys.argv[1:])"
    process = subprocess.Popen(
        [sys.executable, "-c", leader, *command],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=cwd,
        env=dict(environ),
        start_new_session=True,
    )
    os.close(theirs)
    screen, text, moments, pressed = Screen(columns, rows), "", [], False
    deadline = time.monotonic() + timeout_s
    pending = b""
    while time.monotonic() < deadline:
        if not select.select([ours], [], [], 1)[0]:
            continue
        try:
            chunk = os.read(ours, 65536)
        except OSError:  # the program has ended
            break
        if not chunk:
            break
        pending += chunk
        piece = pending.decode("utf-8", errors="ignore")
        pending = pending[len(piece.encode()) :]
        text += piece
        screen.write(piece)
        moments.append(tuple(screen.lines))
        if not pressed and interrupt(text):
            pressed = True
            os.write(ours, b"\x03")
    os.close(ours)
    try:
        code = process.wait(timeout=10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        raise
    return Seen(text, screen, tuple(moments), code)
