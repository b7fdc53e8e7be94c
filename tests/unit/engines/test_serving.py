"""The server of an engine on a real socket, with an application that waits to be told its answers."""

from __future__ import annotations

import asyncio
import json
import resource
import socket
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Event

import pytest
from starlette.requests import Request
from starlette.responses import Response
from support.raw_http import TOKEN, read_answer, request, served

from capvec.engines.client import EngineClient
from capvec.engines.protocol import EngineInfo
from capvec.engines.serving import (
    Bounds,
    JsonResponse,
    LargeResponse,
    body_of,
    endpoints,
    unless_gone,
    while_connected,
    within_files,
)
from capvec.errors import EngineUnavailable

pytestmark = pytest.mark.unit
INFO = EngineInfo("m", None, "Llama", 2, 4, 64, "float32", "cpu", "0")
BOUNDS = Bounds(
    body_bytes=2000, pieces=1000, held_bytes=3000, requests=2, connections=8, request_s=0.5, idle_s=60, answer_s=0.5,
    linger_s=0.3,
)  # fmt: skip
LARGE = bytes(range(256)) * (64 << 12)


@dataclass
class Waiting:
    """Endpoints of which one gives its answer when the test sets it."""

    works: list[Future[str]] = field(default_factory=list)
    ended: Event = field(default_factory=Event)
    """Set when a client has taken a large answer, or is gone."""

    async def health(self, _: Request) -> Response:
        return JsonResponse(INFO.to_json())

    async def work(self, http: Request) -> Response:
        body = await body_of(http, BOUNDS.body_bytes)
        self.works.append(work := Future())
        if body.startswith(b"now"):
            work.set_result("done")
        return JsonResponse({"answer": await while_connected(http, work)})

    async def coroutine(self, http: Request) -> Response:
        body = await body_of(http, BOUNDS.body_bytes)
        self.works.append(work := Future())
        return JsonResponse({"answer": await unless_gone(http, self._later(body, work))})

    async def _later(self, body: bytes, work: Future[str]) -> str:
        try:
            return "done" if body == b"now" else await asyncio.sleep(60)
        finally:
            work.set_result("ended")

    async def large(self, _: Request) -> Response:
        return LargeResponse(LARGE, self.ended.set)

    async def broken(self, _: Request) -> Response:
        raise RuntimeError("lone \ud800 surrogate")

    def begun(self, count: int) -> None:
        """Wait until so many requests have been read."""
        until(lambda: len(self.works) >= count)


def until(condition) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def waiting():
    return Waiting()


@pytest.fixture
def engine(waiting):
    routes = {
        "/health": ("GET", waiting.health),
        "/work": ("POST", waiting.work),
        "/coroutine": ("POST", waiting.coroutine),
        "/large": ("GET", waiting.large),
        "/broken": ("GET", waiting.broken),
    }
    with served(endpoints(routes, TOKEN, BOUNDS), BOUNDS) as running:
        yield running


@pytest.mark.parametrize(
    ("raw", "status", "said"),
    [
        (request("GET", "/nowhere"), 404, "no endpoint '/nowhere'; expected one of /health, /work, /coroutine"),
        (request("GET", "/health/"), 404, "no endpoint"),
        (request("GET", "//health"), 404, "no endpoint"),
        (request("GET", "http://engine/health"), 404, "no endpoint"),
        (request("GET", "/%ff%00"), 404, "no endpoint"),
        (request("OPTIONS", "*"), 404, "no endpoint"),
        (request("CONNECT", "engine:80"), 404, "no endpoint"),
        (request("GET", "/work"), 405, "GET /work: expected POST"),
        (request("DELETE", "/health"), 405, "DELETE /health: expected GET"),
        (request("BREW" * 40, "/health"), 405, "expected GET"),
        (request("GET", "/health", token="wrong"), 401, "bearer token"),
        (request("GET", "/health", token="\xff"), 401, "bearer token"),
        (b"GET /health HTTP/1.1\r\nHost: engine\r\nAuthorization:\r\n\r\n", 401, "bearer token"),
        (b"GET /large HTTP/1.1\r\nHost: engine\r\n\r\n", 401, "bearer token"),
        (b"GET /nowhere HTTP/1.1\r\nHost: engine\r\n\r\n", 401, "bearer token"),
        (request("GET", "/broken"), 500, "lone \ud800 surrogate"),
        (request("POST", "/work", b"", "Content-Length: abc"), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Content-Length: -1"), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Content-Length: 1", "Content-Length: 2"), 400, "conflicting Content-Length"),
        (request("POST", "/work", b"", "Content-Length: " + "9" * 19), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"", "Content-Length: " + "9" * 30), 400, "bad Content-Length"),
        (request("POST", "/work", b"", "Transfer-Encoding: gzip"), 501, "Transfer-Encoding"),
        (request("POST", "/work", b"zzz\r\n", "Transfer-Encoding: chunked"), 400, "illegal chunk header"),
        (request("POST", "/work", b"5\r\nhello!", "Transfer-Encoding: chunked"), 400, "malformed chunk footer"),
        (request("POST", "/work", b"x" * 2001), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"x" * 1_000_000), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"1\r\nx\r\n" * 1001, "Transfer-Encoding: chunked"), 413, "more than 1,000 pieces"),
        (request("POST", "/health", b"1\r\nx\r\n" * 9999, "Transfer-Encoding: chunked"), 413, "more than 1,000 pieces"),
        (request("POST", "/work", b"7d1\r\n" + b"x" * 2001 + b"\r\n", "Transfer-Encoding: chunked"), 413, "at most"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 500, 400, "no HTTP/1.1"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 401, "bearer token"),
        (b"GET /health HTTP/1.1\r\n\r\n", 400, "Missing mandatory Host"),
        (b"GET /health\r\n\r\n", 400, "illegal request line"),
        (b"GET /health HTTP/1.1\r\nHost: e\r\nX: " + b"y" * 100_000, 431, "Receive buffer too long"),
        (b"GET /health HTTP/1.1\r\nHost: e\r\n: \r\n\r\n", 400, "illegal header line"),
        (b"\r\n\r\nnonsense" * 9, 400, "no HTTP/1.1"),
    ],
)  # fmt: skip
def test_whatever_arrives_is_answered_in_json_with_the_reason(engine, raw, status, said):
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


def test_a_health_probe_needs_no_token_and_learns_nothing(engine):
    answer = engine.send(b"GET /health HTTP/1.1\r\nHost: engine\r\n\r\n")
    assert (answer.status, json.loads(answer.body)) == (200, {"status": "ok"})
    assert json.loads(engine.send(request("GET", "/health")).body) == INFO.to_json()
    wanted = "answers and wants a token; give it in CAPVEC_ENGINE_TOKEN"
    with EngineClient(engine.url, "") as client, pytest.raises(EngineUnavailable, match=wanted):
        client.health()
    assert engine.send(b"HEAD /health HTTP/1.1\r\nHost: engine\r\n\r\n", method="HEAD").status == 200


def test_a_refusal_says_in_its_headers_what_to_do(engine):
    assert engine.send(request("GET", "/work")).headers["allow"] == "POST"
    assert engine.send(request("GET", "/health", token="wrong")).headers["www-authenticate"] == "Bearer"


def test_a_body_in_chunks_is_read_and_none_is_an_empty_one(engine):
    chunked = request("POST", "/work", b"2\r\nno\r\n1\r\nw\r\n0\r\n\r\n", "Transfer-Encoding: chunked")
    assert engine.send(chunked).status == 200
    assert engine.send(request("POST", "/work", b"now", "Expect: 100-continue", "Content-Length: 3")).status == 200


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


@pytest.mark.parametrize("path", ["/work", "/coroutine"])
@pytest.mark.parametrize("half_close", [True, False])
def test_what_a_client_that_left_had_asked_for_is_given_up(engine, waiting, half_close, path):
    with engine.connect() as connection:
        connection.sendall(request("POST", path))
        waiting.begun(1)
        if half_close:
            connection.shutdown(1)
            assert "keep it open" in read_answer(connection).error["message"]
    until(waiting.works[0].done)
    assert engine.post(path, b"now").status == 200


def test_more_requests_than_the_bound_are_told_to_come_again_and_capvecs_client_does(engine, waiting):
    with ThreadPoolExecutor(3) as pool:
        first = [pool.submit(engine.post, "/work", b"") for _ in range(BOUNDS.requests)]
        waiting.begun(2)
        answer = engine.post("/work", b"now")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "busy with 2 requests" in answer.error["message"]
        assert engine.send(request("GET", "/health")).status == 200
        for work in list(waiting.works):
            work.set_result("done")
        assert [one.result().status for one in first] == [200, 200]


def test_bodies_that_do_not_fit_together_are_told_to_come_again(engine, waiting):
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(engine.post, "/work", b"x" * 2000)
        waiting.begun(1)
        answer = engine.post("/work", b"x" * 1001)
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "busy with 2,000 bytes of requests" in answer.error["message"]
        chunked = engine.send(request("POST", "/work", b"3e9\r\n" + b"x" * 1001, "Transfer-Encoding: chunked"))
        assert (chunked.status, chunked.headers["retry-after"]) == (503, "1")
        assert engine.post("/work", b"now").status == 200
        waiting.works[0].set_result("done")
        assert first.result().status == 200
    for _ in range(2):  # what was refused, answered, or given up holds nothing
        assert engine.post("/work", b"x" * 2001).status == 413
        with engine.connect() as connection:
            connection.sendall(request("POST", "/work", b"", "Content-Length: 2000") + b"x" * 1999)
        chunked = request("POST", "/work", b"7d0\r\n" + b"x" * 2000, "Transfer-Encoding: chunked")
        assert engine.send(chunked, half_close=True).status in (400, 503)
    until(lambda: engine.post("/work", b"now".ljust(2000)).status == 200)


def test_a_client_that_takes_a_large_answer_slowly_gets_it_whole(engine, waiting):
    with engine.connect() as connection:
        connection.sendall(request("GET", "/large"))
        received = bytearray()
        while not received.endswith(LARGE[-1000:]) or len(received) < len(LARGE):
            received += connection.recv(8 << 20)
            time.sleep(0.02)
    assert received.endswith(LARGE)
    assert waiting.ended.wait(10)


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
        ((1024, 524_288), [(1280, 524_288)], 1024),
        ((1024, 1024), [(1024, 1024)], 768),
        ((64, 64), [(64, 64)], 16),
        ((-1, -1), [], 1024),
        ((256, -1), [(1280, -1)], 1024),
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


def test_the_client_waits_for_a_busy_server_and_says_why_when_that_does_not_help():
    asked = []

    async def busy(scope, receive, send):
        asked.append(scope["path"])
        again = {"retry-after": "0" if len(asked) < 3 else "900"}
        body = {"error": {"message": "busy", "code": "overloaded"}}
        answered = JsonResponse(INFO.to_json()) if len(asked) == 3 else JsonResponse(body, 503, again)
        await answered(scope, receive, send)

    with served(busy) as running, EngineClient(running.url, TOKEN) as client:
        assert client.health() == INFO
        assert len(asked) == 3
        with pytest.raises(EngineUnavailable, match="503 busy"):
            client.health()
        assert len(asked) == 4
