"""Clients that take from an engine all that it has: memory, open files, time. It goes on, and has them back."""

from __future__ import annotations

import asyncio
import json
import socket
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from urllib.parse import urlsplit

import psutil
import pytest
from support.raw_http import Served, request
from support.tiny_models import save_tiny

from capvec.engines.client import EngineClient
from capvec.engines.connections import BACKLOG, OTHER_FILES, REFUSED
from capvec.engines.process import RunningEngine, start_engine
from capvec.engines.protocol import ModelSource
from capvec.engines.serving import BOUNDS

pytestmark = [pytest.mark.siege, pytest.mark.slow]

HELLO = [{"role": "user", "content": "hello"}]
PIECE = b"x" * (1 << 20)
CONNECTIONS = 140
"""That an engine has room for whose open files are limited: more than a quarter of them, which it takes in any case."""


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return ModelSource(str(save_tiny(tmp_path_factory.mktemp("model"), "llama")), "tiny")


@pytest.fixture
def engine(source, tmp_path):
    with start_engine(source, log_path=tmp_path / "engine.log") as running:
        goes_on(running)
        yield running
    assert "Traceback" not in (tmp_path / "engine.log").read_text()


def goes_on(engine: RunningEngine) -> None:
    """Check that a chat is answered."""
    with EngineClient(engine.url, engine.token) as client:
        assert client.complete(HELLO, seed=0, max_tokens=2, temperature=1.0).completion_tokens == 2


def connect(engine: RunningEngine) -> socket.socket:
    connection = Served(urlsplit(engine.url).port).connect()
    connection.settimeout(60)
    return connection


def memory_mb(engine: RunningEngine) -> float:
    return psutil.Process(engine.pid).memory_info().rss / 2**20


@contextmanager
def highest_mb(engine: RunningEngine) -> Iterator[list[float]]:
    """The memory before, and at the end of the context the highest since then."""
    values, over = [memory_mb(engine)], threading.Event()

    def watch() -> None:
        while not over.wait(0.05):
            values[1:] = [max(*values, memory_mb(engine))]

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield values
    finally:
        over.set()
        thread.join()


def after_mb(engine: RunningEngine, wanted: float) -> float:
    """The memory when it has come down to this, or after two minutes."""
    deadline = time.monotonic() + 120
    while memory_mb(engine) > wanted and time.monotonic() < deadline:
        time.sleep(1)
    return memory_mb(engine)


async def upload(engine: RunningEngine) -> int:
    """Send a body of the most bytes except for its last; the status of the answer, 0 where the engine waits for it."""
    reader, writer = await asyncio.open_connection("127.0.0.1", urlsplit(engine.url).port)
    answer = asyncio.ensure_future(reader.readline())
    length = f"Content-Length: {BOUNDS.body_bytes}"
    try:
        writer.write(request("POST", "/v1/chat/completions", b"", length, token=engine.token))
        left = BOUNDS.body_bytes - 1
        while left and not answer.done():
            writer.write(piece := PIECE[:left])
            await writer.drain()
            left -= len(piece)
        done, _ = await asyncio.wait({answer}, timeout=15)
        return int(answer.result().split()[1]) if done else 0
    finally:
        answer.cancel()
        writer.close()


def test_the_bodies_of_all_requests_together_are_bounded(engine, record_property):
    async def all_at_once() -> list[int]:
        return await asyncio.gather(*(upload(engine) for _ in range(BOUNDS.requests)))

    with highest_mb(engine) as memory:
        answers = asyncio.run(all_at_once())
    before, highest = memory
    after = after_mb(engine, before + 64)
    print(f"before {before:.0f}, highest {highest:.0f}, after {after:.0f} MB; {answers.count(503)} were refused")
    record_property("memory_mb", [round(value) for value in (before, highest, after)])
    assert answers.count(0) == BOUNDS.held_bytes // BOUNDS.body_bytes
    assert answers.count(503) == BOUNDS.requests - answers.count(0)
    assert highest < before + 2 * BOUNDS.held_bytes / 2**20
    assert after < before + 64
    goes_on(engine)


def test_the_memory_of_a_thousand_requests_at_once_comes_back(engine, record_property):
    def ask(number: int) -> None:
        with EngineClient(engine.url, engine.token) as client:
            talk = [{"role": "user", "content": f"{number} " + "x y z " * 100}]
            client.complete(talk, seed=number, max_tokens=4, temperature=1.0)

    with highest_mb(engine) as memory, ThreadPoolExecutor(1000) as pool:
        list(pool.map(ask, range(1000)))
    before, highest = memory
    after = after_mb(engine, before + 64)
    print(f"before {before:.0f}, highest {highest:.0f}, after {after:.0f} MB")
    record_property("memory_mb", [round(value) for value in (before, highest, after)])
    assert highest < before + 512
    assert after < before + 64


def test_an_engine_whose_open_files_are_used_up_refuses_and_comes_back(source, tmp_path, monkeypatch):
    limited = tmp_path / "python"
    limited.write_text(
        f'#!/bin/sh\nulimit -n {2 * BACKLOG + REFUSED + OTHER_FILES + CONNECTIONS}\nexec {sys.executable} "$@"\n'
    )
    limited.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(limited))
    with start_engine(source, log_path=tmp_path / "log") as engine:
        monkeypatch.undo()
        with ExitStack() as stack:
            kept = [stack.enter_context(connect(engine)) for _ in range(4 * CONNECTIONS)]
            refused = kept[CONNECTIONS].recv(4096)
            assert refused.startswith(b"HTTP/1.1 503")
            assert (
                f"busy with {CONNECTIONS} connections"
                in json.loads(refused.partition(b"\r\n\r\n")[2])["error"]["message"]
            )
            kept[0].sendall(request("GET", "/health", token=engine.token))
            assert kept[0].recv(4096).startswith(b"HTTP/1.1 200")
        goes_on(engine)
    assert "Too many open files" not in (tmp_path / "log").read_text()


def test_a_flood_of_connections_holds_nobody_up_for_long(engine):
    with ExitStack() as stack:
        for _ in range(3 * BOUNDS.connections):
            stack.enter_context(connect(engine))
    began = time.monotonic()
    goes_on(engine)
    assert time.monotonic() - began < 30


def test_a_client_that_sends_a_byte_a_second_has_a_minute(engine):
    with connect(engine) as connection:
        connection.sendall(request("POST", "/v1/chat/completions", b"", "Content-Length: 9999", token=engine.token))
        began = time.monotonic()
        connection.settimeout(1)
        while time.monotonic() - began < 2 * BOUNDS.request_s:
            try:
                answer = connection.recv(4096)
                break
            except TimeoutError:
                connection.send(b"x")
        assert answer.startswith(b"HTTP/1.1 408")
        assert BOUNDS.request_s - 1 < time.monotonic() - began < BOUNDS.request_s + 20
