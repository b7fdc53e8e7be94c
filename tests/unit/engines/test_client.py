"""The engine's client on connections that end when they should not."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from capvec.engines.client import EngineClient
from capvec.engines.protocol import CLIENT_IDLE_S, SERVER_IDLE_S, EngineInfo
from capvec.errors import EngineUnavailable

pytestmark = pytest.mark.unit
INFO = EngineInfo("m", None, "Llama", 2, 4, 64, "float32", "cpu", "0")


class Hasty:
    """A server that closes a connection when the second request on it arrives, and answers no more than `answers`."""

    def __init__(self, answers: int) -> None:
        self.answers, self.connections = answers, 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._serve, daemon=True).start()

    def close(self) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            with connection:
                for _ in self._requests(connection):
                    body = json.dumps(INFO.to_json()).encode()
                    connection.sendall(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)

    def _requests(self, connection: socket.socket) -> Iterator[None]:
        """The first request of a connection, if there is an answer left; the second one is read and dropped."""
        if connection.recv(65536) and self.answers:
            self.answers -= 1
            yield
            connection.recv(65536)


def test_a_request_on_a_connection_that_the_server_just_closed_is_sent_again() -> None:
    with closing(Hasty(answers=3)) as server, EngineClient(server.url, "") as client:
        assert [client.health() for _ in range(3)] == [INFO] * 3
        assert server.connections == 3


def test_a_server_that_closes_the_new_connection_too_is_unavailable() -> None:
    with closing(Hasty(answers=1)) as server, EngineClient(server.url, "") as client:
        client.health()
        with pytest.raises(EngineUnavailable, match="did not answer"):
            client.health()
        assert server.connections == 2


def test_the_client_lets_an_idle_connection_go_long_before_the_engine_and_before_usual_servers() -> None:
    usual = 5.0  # uvicorn's default, which other engines have
    assert CLIENT_IDLE_S < usual < SERVER_IDLE_S
