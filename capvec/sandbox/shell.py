"""A shell that lives as long as a trial, spoken to over the socket of one `docker exec`.

Each command is sent as text, and the shell says when it is finished by writing a random mark to a descriptor that the
command's own redirections cannot touch. Starting a process per command would lose `cd` and variables, and costs 70 ms
where this costs less than one.
"""

from __future__ import annotations

import re
import secrets
import select
import shlex
import struct
import time
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from capvec.errors import SandboxUnavailable

KEPT_BYTES = 8192
"""Of a command's output; half from its start, half from its end."""
GRACE_S = 3.0
"""How long a shell gets to say that it survived the death of its command."""

_START = """exec 2>/dev/null
if [ -n "$BASH_VERSION" ]; then eval 'exec {wide}>&1'; else exec {narrow}>&1; fi
printf '%s %s %s\\n' {mark} $$ "${{BASH_VERSION:+bash}}"
"""
"""The shell's own standard error would only carry echoes of what is sent here (`set -v`, `set -x`)."""
_COMMAND = """{{ eval {command}; }} </dev/null >&{fd} 2>&1
printf '\\n%s %s %s %s\\n' {mark} "$?" "$PWD" {mark} >&{fd}
"""
"""The command is one quoted word: no process is needed to read it, so that a shell whose PATH is broken or whose
processes are used up can still be mended; and the mark comes after it, where it cannot see it."""
_WIDE_FD, _NARROW_FD = 198, 9
"""Of the saved output: out of the way in bash; other shells know no descriptor of more than one digit."""


class Output:
    """Collects a stream in constant memory: its first and its last bytes."""

    def __init__(self, kept: int = KEPT_BYTES) -> None:
        self._half = kept // 2
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        if len(self._tail) > self._half:
            del self._tail[: len(self._tail) - self._half]

    @property
    def dropped(self) -> int:
        return self._total - len(self._head) - len(self._tail)

    def text(self) -> str:
        """The text, with a line in place of what was left out."""
        middle = f"\n[… {self.dropped} bytes left out …]\n".encode() if self.dropped else b""
        return (bytes(self._head) + middle + bytes(self._tail)).decode(errors="replace")


class ExecStream:
    """The output of one exec, and its input: Docker's frames of `stream type, 0 0 0, length, data`."""

    def __init__(self, sock: Any) -> None:
        self._owner = sock
        # Over a unix socket the SDK hands out a SocketIO; the socket inside can be written to and selected on.
        self._sock = getattr(sock, "_sock", sock)
        self._buffer = b""
        self.ended = False

    def send(self, text: str) -> None:
        # A model's reply may hold halves of surrogate pairs, which no encoding has.
        self._sock.sendall(text.encode(errors="replace"))

    def receive(self, deadline: float) -> bytes:
        """The next piece of output; empty when the stream ended or the deadline (monotonic) passed."""
        while not self.ended:
            if frame := self._frame():
                return frame
            left = deadline - time.monotonic()
            if left <= 0 or not self._readable(left):
                return b""
            data = self._sock.recv(65536)
            self.ended = not data
            self._buffer += data
        return b""

    def _readable(self, seconds: float) -> bool:
        if getattr(self._sock, "pending", int)():  # TLS holds data of its own
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        # The SDK keeps the response on the socket, and the response keeps the connection open: it goes first.
        # Each is closed even if the one before it objects, as it may where the other end has gone.
        with ExitStack() as stack:
            for layer in (self._sock, self._owner, getattr(self._owner, "_response", None)):
                if layer is not None:
                    stack.callback(layer.close)

    def _frame(self) -> bytes:
        if len(self._buffer) < 8:
            return b""
        (length,) = struct.unpack(">I", self._buffer[4:8])
        if len(self._buffer) < 8 + length:
            return b""
        frame, self._buffer = self._buffer[8 : 8 + length], self._buffer[8 + length :]
        return frame


@dataclass(frozen=True)
class Finished:
    """How waiting for a command ended."""

    exit_code: int | None
    """None when the deadline passed, or the shell ended."""
    cwd: str | None
    ended: bool
    """The shell is gone."""


class PersistentShell:
    """One running shell. `ShellRunner` in `docker.py` replaces it when it is lost."""

    def __init__(self, stream: ExecStream, *, timeout_s: float = 20.0) -> None:
        """Raises:
        SandboxUnavailable: the shell does not answer.
        """
        self._stream = stream
        self._mark = f"capvec-{secrets.token_hex(16)}"
        stream.send(_START.format(wide=_WIDE_FD, narrow=_NARROW_FD, mark=self._mark))
        first = self._read_until(re.compile(rb"%b (\d+) (\w*)\n" % self._mark.encode()), Output(), timeout_s)
        if first is None:
            raise SandboxUnavailable("the shell in the container did not start")
        self.pid = int(first[1])
        self._fd = _WIDE_FD if first[2] else _NARROW_FD

    def is_alive(self, output: Output) -> bool:
        """Whether the shell still listens; what came from background processes meanwhile goes to `output`."""
        while not output.dropped and (piece := self._stream.receive(time.monotonic() + 0.001)):
            output.add(piece)
        return not self._stream.ended

    def run(self, command: str, output: Output, *, timeout_s: float) -> Finished:
        """Send a command and read its output until it is finished or the time is up."""
        self._mark = f"capvec-{secrets.token_hex(16)}"
        self._stream.send(_COMMAND.format(mark=self._mark, command=shlex.quote(command), fd=self._fd))
        return self.wait(output, timeout_s=timeout_s)

    def wait(self, output: Output, *, timeout_s: float) -> Finished:
        """Go on reading the output of the command that was sent last."""
        mark = self._mark.encode()
        match = self._read_until(re.compile(rb"\n%b (\d+) (.*?) %b\n" % (mark, mark), re.DOTALL), output, timeout_s)
        if match is None:
            return Finished(None, None, self._stream.ended)
        return Finished(int(match[1]), match[2].decode(errors="replace"), ended=False)

    def close(self) -> None:
        """Hang up; the shell sees the end of its input."""
        self._stream.close()

    def _read_until(self, pattern: re.Pattern[bytes], output: Output, timeout_s: float) -> re.Match[bytes] | None:
        """Read until the pattern; everything before it goes to `output`, in constant memory."""
        deadline = time.monotonic() + timeout_s
        start = b"\n" + self._mark.encode()
        pending = b""
        while True:
            if match := pattern.search(pending):
                output.add(pending[: match.start()])
                return match
            found = pending.find(start)
            # What cannot be the mark's beginning is output; what can stays until more is there.
            keep = found if found >= 0 else max(0, len(pending) - len(start))
            output.add(pending[:keep])
            pending = pending[keep:]
            piece = self._stream.receive(deadline)
            if not piece:
                output.add(pending)
                return None
            pending += piece


def quote_command(command: str) -> str:
    """A command as the shell can take it: NUL bytes, which no shell can hold, are left out."""
    return command.replace("\0", "")


LIST_KEEPERS = """
child=
until [ "$child" ]; do
  for entry in /proc/[0-9]*; do
    while read -r key value; do
      [ "$key $value" = "PPid: 1" ] && child=${entry#/proc/}
    done < "$entry/status"
  done 2>/dev/null
done
echo "1 $child"
"""
"""Names init and its child, for which it waits if it has to. Told by parentage, since an exec
that runs beside it is there too: the parent of that is outside, and counts as 0.
"""

KILL_OTHERS = """
round=0
while [ $((round += 1)) -lt 2000 ]; do
  left=
  for entry in /proc/[0-9]*; do
    pid=${entry#/proc/}
    case " $0 $$ " in *" $pid "*) continue ;; esac
    kill -9 "$pid" 2>/dev/null && left=1
    [ -d "$entry" ] && left=1
  done
  [ -z "$left" ] && exit 0
done
exit 1
"""
"""Kills every process but those named in `$0`, with builtins alone: it works where no further process may start.

It ends with 0 when a whole round found nothing, and with 1 when something stays that it may not or cannot kill.
"""
