"""A socket in front of a Docker daemon, which passes requests on until it is told what to do with them instead."""

from __future__ import annotations

import json
import math
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

_HEAD = b"\r\n\r\n"
_UPGRADE = b"upgrade: tcp"


class DockerProxy:
    """One socket; `fault` takes what a request asks for, and decides."""

    def __init__(self, path: Path, behind: str) -> None:
        """Listen at a path for the daemon at an address of a Unix socket."""
        self.host = f"unix://{path}"
        self.fault: Callable[[str], Iterator[bytes] | None] = lambda _asked: None
        """`GET /v1.41/info` → the bytes of an answer, which may be without an end; or None, and the daemon answers. It
        may take its time."""
        self.byte_s = 0.0
        """Seconds between two bytes of what the daemon answers; 0 for no limit. It counts for answers underway, too."""
        self.gather_s = 0.0
        """Seconds in which what the daemon answers is gathered, to be passed on in one piece."""
        self.asked: list[str] = []
        self.ended = threading.Event()
        self._behind = behind.removeprefix("unix://")
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(str(path))
        self._socket.listen(64)
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        """Listen no longer."""
        self.ended.set()
        self._socket.close()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                threading.Thread(target=self._meet, args=[client], daemon=True).start()

    def _meet(self, client: socket.socket) -> None:
        with closing(client), suppress(OSError):
            data = b""
            while _HEAD not in data:
                if not (piece := client.recv(65_536)):
                    return
                data += piece
            head, _, rest = data.partition(_HEAD)
            asked = " ".join(head.split(b"\r\n")[0].decode().split()[:2])
            self.asked.append(asked)
            if (answer := self.fault(asked)) is not None:
                for piece in answer:
                    if self.ended.is_set():
                        return
                    client.sendall(piece)
                if _UPGRADE in head.lower():  # input that nobody takes would reset the connection in place of its end
                    client.shutdown(socket.SHUT_WR)
                    while client.recv(65_536):
                        pass
                return
            lines = head.split(b"\r\n")
            if _UPGRADE not in head.lower():  # one request for each connection, so that each is seen
                lines = [line for line in lines if not line.lower().startswith(b"connection:")] + [b"Connection: close"]
            with socket.socket(socket.AF_UNIX) as daemon:
                daemon.connect(self._behind)
                daemon.sendall(b"\r\n".join(lines) + _HEAD + rest)
                threading.Thread(target=_pass, args=[client, daemon], daemon=True).start()
                time.sleep(self.gather_s)
                _pass(daemon, client, lambda: self.byte_s)


def _pass(source: socket.socket, target: socket.socket, byte_s: Callable[[], float] = lambda: 0.0) -> None:
    with suppress(OSError):
        while piece := source.recv(65_536):
            while piece and (pause := byte_s()):
                target.sendall(piece[:1])
                piece = piece[1:]
                time.sleep(pause)
            target.sendall(piece)
        target.shutdown(socket.SHUT_WR)


@contextmanager
def docker_proxy(path: Path, behind: str) -> Iterator[DockerProxy]:
    """A proxy at a path, until the context ends."""
    with closing(DockerProxy(path, behind)) as proxy:
        yield proxy


CALLS = {
    "create": r"POST .*/containers/create",
    "start": r"POST .*/containers/\w[^/]*/start",
    "exec": r"POST .*/containers/\w[^/]*/exec",
    "exec start": r"POST .*/exec/\w+/start",
    "exec inspect": r"GET .*/exec/\w+/json",
    "inspect": r"GET .*/containers/\w[^/]*/json",
    "archive get": r"GET .*/archive\?",
    "archive head": r"HEAD .*/archive\?",
    "archive put": r"PUT .*/archive\?",
    "pause": r"POST .*/pause",
    "unpause": r"POST .*/unpause",
    "kill": r"POST .*/kill",
    "wait": r"POST .*/wait",
    "logs": r"GET .*/logs\?",
    "remove": r"DELETE .*/containers/",
}
"""Kind of a call → what it asks for."""


class Once:
    """Answers some calls of one kind with a fault; all others reach the daemon."""

    def __init__(
        self, kind: str, answer: Callable[[], Iterator[bytes]], *, first: int = 0, times: int = 1, when: str = ""
    ) -> None:
        """Answer so many calls of a kind, one of `CALLS`, from one on, of those that also hold what `when` finds."""
        self._kind, self._when, self._answer = re.compile(CALLS[kind]), re.compile(when), answer
        self._numbers, self._lock = range(first, first + times), threading.Lock()
        self.met = 0
        """How many calls of the kind there were."""

    def __call__(self, asked: str) -> Iterator[bytes] | None:
        if not self._kind.match(asked) or not self._when.search(asked):
            return None
        with self._lock:
            number, self.met = self.met, self.met + 1
        return self._answer() if number in self._numbers else None


class For:
    """Answers all calls of one kind with a fault for some seconds from the first one on."""

    def __init__(self, kind: str, answer: Callable[[], Iterator[bytes]], seconds: float) -> None:
        """Answer calls of a kind, one of `CALLS`."""
        self._kind, self._answer, self._seconds = re.compile(CALLS[kind]), answer, seconds
        self._began = math.inf
        self.met = 0
        """How many calls were answered so."""

    def __call__(self, asked: str) -> Iterator[bytes] | None:
        if not self._kind.match(asked):
            return None
        self._began = min(self._began, time.monotonic())
        if time.monotonic() - self._began > self._seconds:
            return None
        self.met += 1
        return self._answer()


def failed(said: str) -> Callable[[], Iterator[bytes]]:
    """Status 500 with a message of Docker's form."""
    body = json.dumps({"message": said}).encode()
    head = b"HTTP/1.1 500 Internal Server Error\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
    return lambda: iter([head % len(body) + body])


def garbage() -> Iterator[bytes]:
    """What is no HTTP."""
    yield b"\x00\xff garbage\r\n"


def status_500() -> Iterator[bytes]:
    """An error without the message that Docker's have."""
    yield b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 5\r\n\r\n[1,2]"


def nonsense() -> Iterator[bytes]:
    """JSON of which nothing is Docker's."""
    yield b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 15\r\n\r\n{"Id": [1, {}]}'


def cut() -> Iterator[bytes]:
    """The beginning of an answer."""
    yield b'HTTP/1.1 200 OK\r\nContent-Length: 5000\r\n\r\n{"Id": '


def endless() -> Iterator[bytes]:
    """An answer without an end."""
    yield b'HTTP/1.1 200 OK\r\n\r\n"'
    while True:
        yield b"x" * 65_536


def slow() -> Iterator[bytes]:
    """An answer of a byte every half second."""
    yield b"HTTP/1.1 200 OK\r\n\r\n"
    while True:
        yield b"x"
        time.sleep(0.5)


def opened(*frames: bytes) -> Callable[[], Iterator[bytes]]:
    """A program is said to be connected and prints some frames, and that is all."""
    head = (
        b"HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\n"
        b"Upgrade: tcp\r\n\r\n"
    )
    return lambda: iter([head, *frames])


FAULTS = {one.__name__: one for one in (garbage, status_500, nonsense, cut, endless, slow)}
