"""How an engine serves HTTP: it answers in JSON whatever arrives, and bounds what it takes in.

`endpoints` makes an application, and `connections` serves it.
"""

from __future__ import annotations

import asyncio
import hmac
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from capvec.engines.checks import RequestError
from capvec.engines.protocol import SERVER_IDLE_S
from capvec.engines.requests import error_response

T = TypeVar("T")
Endpoint = Callable[[Request], Awaitable[Response]]
RETRY_AFTER_S = 1
"""Seconds after which a busy engine may be asked again."""
PIECE_BYTES = 1 << 20
"""Of a large answer, sent at a time."""


@dataclass(frozen=True)
class Bounds:
    """What a server takes in."""

    body_bytes: int = 32 << 20
    """Of one request; a direction of 128 layers of width 16,384 in float64 has half of it."""
    pieces: int = 32 << 10
    """In which a body may arrive, each of which takes time however small it is; 1 KiB each of the largest body."""
    held_bytes: int = 256 << 20
    """Of the bodies of all requests that are not answered."""
    requests: int = 256
    """Read and answered at a time."""
    connections: int = 1024
    """Open at a time, as far as the process may have so many files open: see `connections.within_files`."""
    request_s: float = 60.0
    """Seconds for a whole request to arrive."""
    idle_s: float = SERVER_IDLE_S
    """Seconds after which an idle connection is closed."""
    answer_s: float = 60.0
    """Seconds in which a client takes no part of its answer, after which its connection is cut."""
    linger_s: float = 2.0
    """Seconds for which the rest of a refused request is read: a client that is still sending may miss the answer."""


BOUNDS = Bounds()


class JsonResponse(Response):
    """JSON in ASCII, since a lone surrogate in an error message has no other encoding."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, allow_nan=False).encode()


class Room:
    """Memory that requests share."""

    def __init__(self, most: int, what: str) -> None:
        """Begin with nothing in it.

        Args:
            most: bytes.
            what: is in it, for the message.
        """
        self._most, self._what, self._held = most, what, 0

    def take(self, size: int) -> None:
        """Take so many bytes of it.

        Raises:
            RequestError: there are not so many left at the moment.
        """
        if self._held + size > self._most:
            raise busy(f"{self._held:,} bytes of {self._what}")
        self._held += size

    def give(self, size: int) -> None:
        """Give so many bytes back."""
        self._held -= size


class LargeResponse(Response):
    """Bytes that are sent no faster than the client takes them."""

    media_type = "application/octet-stream"

    def __init__(self, content: bytes, ended: Callable[[], None]) -> None:
        """Make the response.

        Args:
            content: its bytes.
            ended: called when the client has them, or is gone.
        """
        super().__init__(content)
        self._ended = ended

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send it."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            content = memoryview(self.body)
            for start in range(0, len(content), PIECE_BYTES):
                piece = bytes(content[start : start + PIECE_BYTES])
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            self._ended()


END = "[DONE]"
"""The data of the last event of a stream that holds what it promised."""


class EventStream(Response):
    """Server-sent events, each an object of JSON, then `END`; a stream that fails ends in an error without it."""

    media_type = "text/event-stream"

    def __init__(self, events: AsyncGenerator[dict[str, Any] | str, None]) -> None:
        super().__init__(headers={"Cache-Control": "no-cache"})
        del self.headers["content-length"]
        self._events = events
        self.ended: Callable[[], None] = lambda: None
        """Called when the client has all events, or is gone."""

    async def __call__(self, _scope: Scope, _receive: Receive, send: Send) -> None:
        """Send them as they come."""
        try:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for event in self._events:
                data = event if isinstance(event, str) else json.dumps(event, allow_nan=False)
                await send({"type": "http.response.body", "body": f"data: {data}\n\n".encode(), "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        finally:
            await self._events.aclose()
            self.ended()


class Turns:
    """Requests that are read and answered at a time."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0

    def take(self) -> None:
        """Begin with one.

        Raises:
            RequestError: there are as many as may be.
        """
        if self._taken >= self._most:
            raise busy(f"{self._taken} requests")
        self._taken += 1

    def give(self) -> None:
        """End with one."""
        self._taken -= 1


PROBE = "/health"
"""The path that orchestrators ask, without a token, whether a server answers."""


def endpoints(routes: Mapping[str, tuple[str, Endpoint]], token: str, bounds: Bounds = BOUNDS) -> ASGIApp:
    """The application; every request requires `Authorization: Bearer <token>`, and every failure is answered in JSON.

    A probe, `GET /health` without that header, is told that the engine answers, and nothing of it.

    Args:
        routes: path → method and endpoint; one that ends in `/` stands for every path that begins with it and goes on.
            `GET` is answered even when the engine is busy.
        token: the bearer token.
        bounds: of the requests.
    """
    expected = f"Bearer {token}".encode()
    room = Room(bounds.held_bytes, "requests")
    turns = Turns(bounds.requests)

    async def answer(request: Request) -> Response:
        if "authorization" not in request.headers and request.scope["path"] == PROBE and PROBE in routes:
            _route(routes, request)  # refuses other methods
            return JsonResponse({"status": "ok"})
        if not hmac.compare_digest(request.headers.get("authorization", "").encode(), expected):
            raise RequestError("missing or wrong bearer token", "invalid_api_key", 401, {"WWW-Authenticate": "Bearer"})
        method, endpoint = _route(routes, request)
        if method == "GET":
            return await endpoint(request)
        turns.take()
        with ExitStack() as turn:
            turn.callback(turns.give)
            response = await endpoint(request)
            if isinstance(response, EventStream):
                response.ended = turn.pop_all().close
            return response

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        arrived, received, held = False, 0, 0

        def hold(size: int) -> None:
            nonlocal held
            if size > held:
                room.take(size - held)
                held = size

        async def part() -> Message:
            nonlocal arrived
            message = await receive()
            arrived = not message.get("more_body", False)
            return message

        async def kept() -> Message:
            # The room for the whole body, so that of many that come together the first are read, and not parts of all.
            nonlocal received
            hold(_length(request))
            message = await part()
            received += len(message.get("body", b""))
            hold(received)
            return message

        request = Request(scope, kept)
        try:
            response = await answer(request)
        except ClientDisconnect:
            return
        except Exception as error:
            response = refusal(error)
            with suppress(TimeoutError):
                async with asyncio.timeout(bounds.linger_s):
                    while not arrived:
                        await part()
        finally:
            room.give(held)
        await response(scope, receive, send)

    return app


def refusal(error: Exception) -> JsonResponse:
    """The answer that an exception stands for."""
    body, status = error_response(error)
    return JsonResponse(body, status, error.headers if isinstance(error, RequestError) else None)


async def body_of(request: Request, most: int = BOUNDS.body_bytes) -> bytes:
    """The body of a request.

    Raises:
        RequestError: it has more than `most` bytes.
    """
    too_large = RequestError(
        f"the body is too large; expected at most {most:,} bytes, so send less at once", "request_too_large", 413
    )
    if _length(request) > most:
        raise too_large
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > most:
            raise too_large
    return bytes(body)


async def while_connected(request: Request, work: Future[T]) -> T:
    """The result of `work`, which is given up when the client leaves; the body must have been read.

    Raises:
        ClientDisconnect: the client left.
    """
    try:
        return await unless_gone(request, asyncio.wrap_future(work))
    finally:
        if not work.cancel():  # it has begun; whoever does it sees that it is done
            with suppress(InvalidStateError):
                work.set_exception(ClientDisconnect())


async def unless_gone(request: Request, work: Awaitable[T]) -> T:
    """The result of a coroutine or future, which is cancelled when the client leaves; the body must have been read.

    Raises:
        ClientDisconnect: the client left.
    """
    result = asyncio.ensure_future(work)
    gone: asyncio.Future[Any] = asyncio.ensure_future(request.receive())
    try:
        await asyncio.wait({gone, result}, return_when=asyncio.FIRST_COMPLETED)
        if result.done():
            return result.result()
        raise ClientDisconnect
    finally:
        gone.cancel()
        result.cancel()


def _length(request: Request) -> int:
    """Bytes of a body, as its header states them; 0 where it does not. (h11 refuses one that lies.)"""
    return int(request.headers.get("content-length", 0))


def _route(routes: Mapping[str, tuple[str, Endpoint]], request: Request) -> tuple[str, Endpoint]:
    path, asked = request.scope["path"], request.method
    begun = (known for known in routes if known.endswith("/") and path.startswith(known) and path != known)
    known = path if path in routes and not path.endswith("/") else next(begun, None)
    if known is None:
        raise RequestError(f"no endpoint {path[:80]!r}; expected one of {', '.join(routes)}", "not_found", 404)
    method, _ = found = routes[known]
    if asked != method and (asked, method) != ("HEAD", "GET"):
        raise RequestError(f"{asked[:20]} {path}: expected {method}", "method_not_allowed", 405, {"Allow": method})
    return found


def busy(what: str) -> RequestError:
    """What is answered when there is room for no more.

    Args:
        what: the engine is busy with, as in `256 requests`.
    """
    return RequestError(
        f"the engine is busy with {what}; ask again in {RETRY_AFTER_S} s",
        "overloaded",
        503,
        {"Retry-After": str(RETRY_AFTER_S)},
    )
