"""The engine's client on connections that end when they should not."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from capvec.engines import client as clients
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


@contextmanager
def sending(head: bytes, part: bytes, *, endless: bool = False) -> Iterator[str]:
    """A server whose every answer is a head and a part, which an endless one sends again and again."""

    def serve() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.recv(65536)
                connection.sendall(head + part)
                while endless:
                    connection.sendall(part)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.mark.parametrize(
    "body", [b"[" * 200_000, b'{"a":' * 200_000, b'{"a": [' + b"[]," * 2_000_000 + b"0]}", b"9" * 9999, b"<html>", b""]
)
def test_an_answer_that_no_engine_gives_is_refused_quickly_in_one_sentence(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    started = time.monotonic()
    with (
        sending(head, body) as url,
        EngineClient(url, "") as client,
        pytest.raises(EngineUnavailable, match="health sent no JSON: is this a capvec engine"),
    ):
        client.health()
    assert time.monotonic() - started < 10


@pytest.mark.parametrize("status", [b"200 OK", b"500 No"])
def test_of_an_answer_without_end_no_more_is_read_than_an_engine_sends(status: bytes) -> None:
    head = b"HTTP/1.1 " + status + b"\r\n\r\n"
    with (
        sending(head, b" " * 65536, endless=True) as url,
        EngineClient(url, "") as client,
        pytest.raises(EngineUnavailable, match="sent more than 67,108,864 bytes"),
    ):
        client.health()


def test_an_answer_that_comes_byte_by_byte_has_a_limit_of_time(monkeypatch) -> None:
    monkeypatch.setattr(clients, "TIMEOUT_S", 0.2)
    with (
        sending(b"HTTP/1.1 200 OK\r\n\r\n", b" ", endless=True) as url,
        EngineClient(url, "") as client,
        pytest.raises(EngineUnavailable, match="did not end its answer within"),
    ):
        client.health()


@pytest.mark.parametrize("body", [b"[]", b"0", b'{"data": 1}', b'{"data": [{}]}', b'{"choices": "x", "usage": 1}'])
def test_json_of_another_server_is_no_reply_and_no_list_of_models(body: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body)
    with sending(head, body) as url, EngineClient(url, "") as client:
        with pytest.raises(EngineUnavailable, match="not a chat completion"):
            client.complete([{"role": "user", "content": "a"}], seed=0, max_tokens=1, temperature=0.0)
        with pytest.raises(EngineUnavailable, match="sent no list of models"):
            client.publish(())
