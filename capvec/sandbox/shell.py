"""A shell that lives as long as a trial, controlled over the socket of one `docker exec`.

Each command is sent as text. The shell reports its end by writing a random mark to a file descriptor that the
command's own redirections cannot reach. A process for each command would lose `cd` and variables, and would take 70 ms
where this takes less than one.
"""

from __future__ import annotations

import re
import secrets
import shlex
import time
from dataclasses import dataclass

from capvec.sandbox.streams import ExecStream, Output

START_S = 20.0
"""How long a shell may take to start."""
COMMAND = """
cd "$0" 2>/dev/null || cd /
if command -v bash >/dev/null; then exec bash --noprofile --norc; else exec sh; fi
"""
"""Becomes the shell, in the directory `$0`, or in `/` where that is gone.

The directory is the agent's to name. Docker waits for ever for a long one, and an old runc enters one that is not the
container's."""
_START = """exec 2>/dev/null
if [ -n "$BASH_VERSION" ]; then eval 'exec {wide}>&1'; else exec {narrow}>&1; fi
read -r up idle </proc/uptime
printf '%s %s %s %s\\n' {mark} $$ "$up" "${{BASH_VERSION:+bash}}"
unset up idle
"""
"""The shell's own standard error is closed: it would only carry echoes of what is sent (`set -v`, `set -x`)."""
_COMMAND = """{{ eval {command}; }} </dev/null >&{fd} 2>&1
printf '\\n%s %s %s %s\\n' {mark} "$?" "$PWD" {mark} >&{fd}
"""
"""The command is one quoted word, so that the shell needs no process to read it: a shell whose PATH is broken or whose
processes are used up can still be repaired. The mark follows the command, which cannot see it."""
_LONGEST = 1 << 16
"""Bytes of a shell's directory. A shell counts its way there, which may be longer than a path may be for Linux."""
_HOLD_S = 1.0
"""How long a shell may take to take `_HOLD`."""
_WIDE_FD, _NARROW_FD = 198, 9
"""Descriptors of the saved output: a high one in bash; other shells accept one digit only."""


_HOLD = "command kill -STOP $$\n"
"""The shell stops itself instead of ending, so that Docker goes on to read what its background jobs print. A server
whose output nobody reads dies when it logs a request."""


class ShellLost(Exception):
    """The agent has left its container without a shell that works; no fault of the infrastructure."""


@dataclass(frozen=True)
class Finished:
    """How waiting for a command ended."""

    exit_code: int | None
    """None if the deadline passed or the shell ended."""
    cwd: str | None
    """The shell's directory; None if the deadline passed or the shell ended."""
    ended: bool
    """Whether the shell ended."""


class PersistentShell:
    """One running shell. `DockerSandbox` replaces it when it is lost."""

    def __init__(self, stream: ExecStream, timeout_s: float = START_S) -> None:
        """Wait until the shell answers.

        Args:
            stream: connected to a shell that was just started.
            timeout_s: seconds until it must answer.

        Raises:
            ShellLost: it ends, or does not answer in time.
        """
        self._stream = stream
        self._mark = f"capvec-{secrets.token_hex(16)}"
        start = _START.format(wide=_WIDE_FD, narrow=_NARROW_FD, mark=self._mark)
        stream.send(start, time.monotonic() + timeout_s)
        answer = re.compile(rb"%b (\d{1,9}) (\d{1,12}\.\d+) (\w*)\n" % self._mark.encode())
        before = Output()
        first = self._read_until(answer, before, timeout_s)
        if first is None:
            raise ShellLost("what is called sh in the container does not answer as a shell")
        self.said = before.text()
        """What was printed before the shell answered."""
        self.pid = int(first[1])
        self.clock = float(first[2]) - time.monotonic()
        """Seconds since the boot, less monotonic seconds here; too small by the time that the answer took."""
        self._fd = _WIDE_FD if first[3] else _NARROW_FD

    def is_alive(self, output: Output) -> bool:
        """Whether the shell still listens. Output of background processes since the last command goes to `output`."""
        while not output.dropped and (piece := self._stream.receive(time.monotonic() + 0.001)):
            output.add(piece)
        return not self._stream.ended

    def run(self, command: str, output: Output, *, timeout_s: float) -> Finished:
        """Send a command and read its output until it is finished or the time is up."""
        self._mark = f"capvec-{secrets.token_hex(16)}"
        deadline = time.monotonic() + timeout_s
        text = _COMMAND.format(mark=self._mark, command=shlex.quote(command), fd=self._fd)
        self._stream.send(text, deadline)
        return self.wait(output, timeout_s=deadline - time.monotonic())

    def wait(self, output: Output, *, timeout_s: float) -> Finished:
        """Continue to read the output of the last command."""
        mark = self._mark.encode()
        end = re.compile(rb"\n%b (\d{1,3}) (.{0,%d}?) %b\n" % (mark, _LONGEST, mark), re.DOTALL)
        match = self._read_until(end, output, timeout_s)
        if match is None:
            return Finished(None, None, self._stream.ended)
        return Finished(int(match[1]), match[2].decode(errors="replace"), ended=False)

    def close(self) -> None:
        """Close the connection. Background jobs live on."""
        try:
            self._stream.send(_HOLD, time.monotonic() + _HOLD_S)
        finally:
            self._stream.close()

    def _read_until(self, pattern: re.Pattern[bytes], output: Output, timeout_s: float) -> re.Match[bytes] | None:
        """Read until the pattern matches. Everything before the match goes to `output`, in constant memory."""
        deadline = time.monotonic() + timeout_s
        start = b"\n" + self._mark.encode()
        pending = b""
        while True:
            if match := pattern.search(pending):
                output.add(pending[: match.start()])
                return match
            found = pending.find(start)
            if len(pending) - found > 2 * _LONGEST:
                found = -1  # no shell writes so much between its marks
            # What cannot be the beginning of the mark is output. The rest is kept until more has arrived.
            keep = found if found >= 0 else max(0, len(pending) - len(start))
            output.add(pending[:keep])
            pending = pending[keep:]
            piece = self._stream.receive(deadline)
            if not piece:
                output.add(pending)
                return None
            pending += piece


def quote_command(command: str) -> str:
    """A command without NUL bytes, which no shell can hold."""
    return command.replace("\0", "")
