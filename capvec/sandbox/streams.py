"""The output of a program in a container: Docker's frames, and the bytes that are kept of it."""

from __future__ import annotations

import io
import select
import ssl
import struct
import time
from contextlib import ExitStack, suppress
from typing import Any

import docker.errors

from capvec.reading import MIB, size
from capvec.sandbox.base import KEPT_BYTES

_LARGEST_FRAME = 16 * MIB
"""Bytes of a frame; Docker's have up to 32 KiB."""
ASKED = 5
"""How often to start a program whose answer is needed. On busy cores Docker lets go of what one that has ended printed:
it waits for two seconds for what is still on its way."""


class Output:
    """Collects a stream in constant memory: its first and its last bytes."""

    def __init__(self) -> None:
        self._half = KEPT_BYTES // 2
        self._head, self._tail, self._total = bytearray(), bytearray(), 0

    def add(self, data: bytes) -> None:
        """Take the next bytes of the stream."""
        self._total += len(data)
        room = self._half - len(self._head)
        self._head += data[:room]
        self._tail += data[max(room, 0) :]
        if len(self._tail) > self._half:
            del self._tail[: len(self._tail) - self._half]

    @property
    def dropped(self) -> int:
        """Bytes that were left out of the middle."""
        return self._total - len(self._head) - len(self._tail)

    def text(self) -> str:
        """The text, with a line in place of the bytes that were left out."""
        middle = f"\n[… {self.dropped} bytes left out …]\n".encode() if self.dropped else b""
        return (bytes(self._head) + middle + bytes(self._tail)).decode(errors="replace")


class ExecStream:
    """Input and output of one `docker exec`; the output comes in frames of `stream type, 0 0 0, length, data`."""

    def __init__(self, sock: Any) -> None:
        self._owner = sock
        # Over a unix socket the SDK hands out a SocketIO; the socket inside can be written to and selected on.
        self._sock = getattr(sock, "_sock", sock)
        self._buffer = _come_already(getattr(sock, "_response", None))
        self.ended = False
        """Whether the output has ended."""

    def send(self, text: str, deadline: float) -> None:
        """Write text to the program's input, until it has ended or the deadline, in monotonic seconds, passes.

        A program that is stopped takes only what fits into the buffers on the way to it.
        """
        self._sock.settimeout(max(deadline - time.monotonic(), 0.001))
        with suppress(TimeoutError, BrokenPipeError):  # what can be read tells both
            # A model's reply may hold lone surrogates, which no encoding has.
            self._sock.sendall(text.encode(errors="replace"))
        self._sock.settimeout(None)

    def receive(self, deadline: float) -> bytes:
        """The next piece of output; empty once the stream ended or the deadline, in monotonic seconds, passed."""
        while not self.ended:
            if frame := self._frame():
                return frame
            left = deadline - time.monotonic()
            if left <= 0 or not self._readable(left):
                return b""
            data = self._sock.recv(65536)
            self.ended = not data
            self._buffer += data
            if self.ended and self._buffer:
                raise docker.errors.StreamParseError("the output of a program was cut off")
        return b""

    def _readable(self, seconds: float) -> bool:
        if getattr(self._sock, "pending", int)():  # TLS holds data of its own
            return True
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def close(self) -> None:
        """Close the connection."""
        # The SDK keeps the response on the socket, and the response keeps the connection open: it goes first.
        # Each is closed even if the one before it objects, as it may if the other end is gone.
        with ExitStack() as stack:
            for layer in (self._sock, self._owner, getattr(self._owner, "_response", None)):
                if layer is not None:
                    stack.callback(layer.close)

    def _frame(self) -> bytes:
        if len(self._buffer) < 8:
            return b""
        (length,) = struct.unpack(">I", self._buffer[4:8])
        if length > _LARGEST_FRAME:
            raise docker.errors.StreamParseError(f"a frame of {size(length)} in the output of a program")
        if len(self._buffer) < 8 + length:
            return b""
        frame, self._buffer = self._buffer[8 : 8 + length], self._buffer[8 + length :]
        return frame


def _come_already(response: Any) -> bytes:
    """What came together with the head of an answer: the reader of the head has it, and the socket no longer."""
    reader = getattr(getattr(getattr(response, "raw", None), "_fp", None), "fp", None)
    if not isinstance(reader, io.BufferedReader):
        return b""
    sock = reader.raw._sock
    limit_s = sock.gettimeout()
    sock.settimeout(0)
    try:
        with suppress(ssl.SSLWantReadError):  # nothing has
            return reader.peek()
    finally:
        sock.settimeout(limit_s)
    return b""
