"""The connections of an engine's server: bytes on a real socket that are no HTTP, late, too many, or never taken."""

from __future__ import annotations

import resource
import socket
import time
from contextlib import ExitStack

import pytest
from support.raw_http import read_answer, request
from support.waiting_engine import BOUNDS, LARGE

from capvec.engines.connections import within_files

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (request("POST", "/work", b"", "Content-Length: abc"), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Content-Length: -1"), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Content-Length: 1", "Content-Length: 2"), 400, "conflicting Content-Length"),
        (request("POST", "/work", b"", "Content-Length: " + "9" * 30), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Transfer-Encoding: gzip"), 501, "Transfer-Encoding"),
        (request("POST", "/work", b"zzz\r\n", "Transfer-Encoding: chunked"), 400, "illegal chunk header"),
        (request("POST", "/work", b"5\r\nhello!", "Transfer-Encoding: chunked"), 400, "malformed chunk footer"),
        (request("POST", "/work", b"1\r\nx\r\n" * 1001, "Transfer-Encoding: chunked"), 413, "more than 1,000 pieces"),
        (request("POST", "/health", b"1\r\nx\r\n" * 9999, "Transfer-Encoding: chunked"), 413, "more than 1,000 pieces"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, 400, "no HTTP/1.1"),
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host"),
        (b"GET /health\r\n\r\n", 400, "illegal request line"),
        (b"GET /health HTTP/1.1\r\nHost: e\r\nX: " + b"y" * 100_000, 431, "Receive buffer too long"),
        (b"GET /health HTTP/1.1\r\nHost: e\r\n: \r\n\r\n", 400, "illegal header line"),
        (b"\r\n\r\nnonsense" * 9, 400, "no HTTP/1.1"),
    ],
)  # fmt: skip
def test_what_is_no_http_is_answered_in_json_with_the_reason(engine, raw, status, said):
    answer = engine.send(raw)
    assert answer.status == status
    assert said in answer.error["message"]
    assert engine.send(request("GET", "/health")).status == 200


@pytest.mark.parametrize("length", [3, 5, 100])
def test_of_a_request_with_two_lengths_nothing_is_taken_for_another_request(engine, length):
    """A proxy before the engine may go by either, and would not have seen the second."""
    two = request("POST", "/work", b"0\r\n\r\n", f"Content-Length: {length}", "Transfer-Encoding: chunked")
    with engine.connect() as connection:
        connection.sendall(two + request("GET", "/health"))
        answers = b"".join(iter(lambda: connection.recv(65536), b""))
    assert (answers.count(b"HTTP/1.1 "), answers.count(b"HTTP/1.1 400")) == (1, 1)
    assert b"connection: close" in answers.lower()


def test_a_body_in_as_many_pieces_as_may_be_is_read_and_the_next_request_may_have_as_many(engine):
    body = b"1\r\nn\r\n" + b"1\r\no\r\n" + b"1\r\nw\r\n" * 998 + b"0\r\n\r\n"
    with engine.connect() as connection:
        for _ in range(2):
            connection.sendall(request("POST", "/work", body, "Transfer-Encoding: chunked"))
            assert read_answer(connection).status == 200


@pytest.mark.parametrize(
    "begun",
    [b"GET /hea", request("GET", "/health")[:-2], request("POST", "/work", b"", "Content-Length: 9") + b"half",
     request("POST", "/work", b"5\r\nhe", "Transfer-Encoding: chunked")],
)  # fmt: skip
def test_a_request_that_does_not_end_is_answered_when_its_time_is_over_or_its_client_leaves(engine, begun):
    assert "within 0.5 s" in engine.send(begun).error["message"]
    answer = engine.send(begun, half_close=True)
    assert (answer.status, answer.error["code"]) == (400, "client_closed")
    assert "before the whole request had arrived" in answer.error["message"]


def test_a_client_that_sends_a_byte_now_and_then_gains_no_time(engine):
    with engine.connect() as connection:
        connection.sendall(request("POST", "/work", b"", "Content-Length: 1000"))
        started = time.monotonic()
        connection.setblocking(False)
        while time.monotonic() - started < 20:
            try:
                if connection.recv(1, 2):  # 2: peek
                    break
            except BlockingIOError:
                connection.send(b"x")
                time.sleep(0.05)
        connection.settimeout(30)
        assert read_answer(connection).status == 408


def test_the_second_of_two_requests_sent_together_has_a_limit_of_time_too(engine):
    with engine.connect() as connection:
        connection.sendall(request("POST", "/work", b"now") + request("POST", "/work", b"", "Content-Length: 9"))
        assert [read_answer(connection).status for _ in range(2)] == [200, 408]


def test_a_client_that_does_not_take_its_answer_is_cut_off(engine, waiting):
    with engine.connect() as connection:
        connection.sendall(request("GET", "/large"))
        assert waiting.ended.wait(10)
        received = 0
        while piece := connection.recv(8 << 20):
            received += len(piece)
    assert received < len(LARGE) / 2
    assert engine.send(request("GET", "/health")).status == 200


def test_a_client_that_asks_on_and_on_and_takes_no_answer_is_cut_off(engine):
    with engine.connect() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(60)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.sendall(request("GET", "/health") * 100_000)
    assert engine.send(request("GET", "/health")).status == 200


def test_there_are_no_more_connections_than_files_that_may_be_open(monkeypatch):
    asked = []
    monkeypatch.setattr(resource, "setrlimit", lambda _, limits: asked.append(limits))
    for limits, wanted, connections in [
        ((20_000, 20_000), [], 1024),
        ((1024, 524_288), [(1408, 524_288)], 1024),
        ((1024, 1024), [(1024, 1024)], 640),
        ((64, 64), [(64, 64)], 16),
        ((-1, -1), [], 1024),
        ((256, -1), [(1408, -1)], 1024),
    ]:
        monkeypatch.setattr(resource, "getrlimit", lambda _, limits=limits: limits)
        asked.clear()
        assert within_files().connections == connections
        assert asked == wanted


def test_more_connections_than_the_bound_are_refused_and_the_others_stay(engine):
    with ExitStack() as stack:
        kept = [stack.enter_context(engine.connect()) for _ in range(BOUNDS.connections)]
        for connection in kept:
            connection.sendall(request("GET", "/health"))
            assert read_answer(connection).status == 200
        answer = engine.send()
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        kept[0].sendall(request("GET", "/health"))
        assert read_answer(kept[0]).status == 200
