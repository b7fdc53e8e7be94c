"""An engine on a real socket, whose endpoints wait until a test tells them their answers."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event

from starlette.requests import Request
from starlette.responses import Response

from capvec.engines.protocol import EngineInfo
from capvec.engines.serving import (
    Bounds,
    JsonResponse,
    LargeResponse,
    body_of,
    endpoints,
    unless_gone,
    while_connected,
)
from support.raw_http import TOKEN, Served, served

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

    @contextmanager
    def served(self) -> Iterator[Served]:
        """Serve them on a free port of loopback, within `BOUNDS`."""
        routes = {
            "/health": ("GET", self.health),
            "/work": ("POST", self.work),
            "/coroutine": ("POST", self.coroutine),
            "/large": ("GET", self.large),
            "/broken": ("GET", self.broken),
        }
        with served(endpoints(routes, TOKEN, BOUNDS), BOUNDS) as running:
            yield running

    def begun(self, count: int) -> None:
        """Wait until so many requests have been read."""
        until(lambda: len(self.works) >= count)


def until(condition: Callable[[], bool]) -> None:
    """Wait for a condition; fails if it does not come true."""
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)
