"""The application of an engine on a real socket, with endpoints that wait to be told their answers."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from support.raw_http import TOKEN, read_answer, request, served
from support.waiting_engine import BOUNDS, INFO, LARGE, until

from capvec.engines.client import EngineClient
from capvec.engines.serving import JsonResponse
from capvec.errors import EngineUnavailable

pytestmark = pytest.mark.unit


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
        (request("POST", "/work", b"", "Content-Length: " + "9" * 19), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"x" * 2001), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"x" * 1_000_000), 413, "at most 2,000 bytes"),
        (request("POST", "/work", b"7d1\r\n" + b"x" * 2001 + b"\r\n", "Transfer-Encoding: chunked"), 413, "at most"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 401, "bearer token"),
    ],
)  # fmt: skip
def test_whatever_is_asked_is_answered_in_json_with_the_reason(engine, raw, status, said):
    answer = engine.send(raw)
    assert answer.status == status
    assert said in answer.error["message"]
    assert engine.send(request("GET", "/health")).status == 200


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
