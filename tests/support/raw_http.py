"""HTTP as no client library would send it: an application served for real, and bytes on a socket."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPResponse
from typing import Any

from starlette.types import ASGIApp

from capvec.engines.connections import server
from capvec.engines.serving import BOUNDS, Bounds

TOKEN = "secret"


@dataclass(frozen=True)
class Served:
    """A server that runs in a thread of this process."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)

    def send(self, *parts: bytes, half_close: bool = False, method: str = "") -> Answer:
        """The answer to bytes that are sent as they are; one to `HEAD` has no body."""
        with self.connect() as connection:
            for part in parts:
                connection.sendall(part)
            if half_close:
                connection.shutdown(socket.SHUT_WR)
            return read_answer(connection, method)

    def post(self, path: str, body: bytes) -> Answer:
        return self.send(request("POST", path, body))


@dataclass(frozen=True)
class Answer:
    """Status, headers and body of an answer."""

    status: int
    headers: Any
    body: bytes

    @property
    def error(self) -> dict[str, str]:
        """The error of a refusal; fails if the answer is not one, in JSON, with a reason."""
        assert self.status >= 400, self
        assert self.headers["content-type"] == "application/json", self
        error = json.loads(self.body)["error"]
        assert len(error["message"]) > 10, error
        assert len(self.body) < 4000, "what was received is quoted whole"
        return dict(error)


@contextmanager
def served(app: ASGIApp, bounds: Bounds = BOUNDS) -> Iterator[Served]:
    """Serve an application on a free port of loopback."""
    listener = socket.create_server(("127.0.0.1", 0))
    running = server(app, bounds)
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        yield Served(listener.getsockname()[1])
    finally:
        running.should_exit = True
        thread.join(timeout=30)
    assert not thread.is_alive()


def request(method: str, path: str, body: bytes = b"", *lines: str, token: str = TOKEN) -> bytes:
    """The bytes of a request; without further header lines it has its content length."""
    head = [f"{method} {path} HTTP/1.1", "Host: engine", f"Authorization: Bearer {token}"]
    head += lines or [f"Content-Length: {len(body)}"]
    return "\r\n".join([*head, "", ""]).encode("latin-1") + body


def read_answer(connection: socket.socket, method: str = "") -> Answer:
    """The next answer on a connection."""
    response = HTTPResponse(connection, method=method)
    response.begin()
    return Answer(response.status, response.headers, response.read())
