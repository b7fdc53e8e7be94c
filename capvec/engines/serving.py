"""How an engine serves HTTP: it answers in JSON whatever arrives, and bounds what it takes in.

Uvicorn and h11 serve, and by themselves answer in plain text what is no HTTP, and wait without end for the rest of a
request. `endpoints` makes an application, and `server` its server.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import resource
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from concurrent.futures import Future, InvalidStateError
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import partial
from http import HTTPStatus
from typing import Any, TypeVar

import h11
import uvicorn
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from capvec.engines.checks import RequestError
from capvec.engines.pieces import BoundedConnection
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
    """Open at a time, as far as the process may have so many files open: see `within_files`."""
    request_s: float = 60.0
    """Seconds for a whole request to arrive."""
    idle_s: float = SERVER_IDLE_S
    """Seconds after which an idle connection is closed."""
    answer_s: float = 60.0
    """Seconds in which a client takes no part of its answer, after which its connection is cut."""
    linger_s: float = 2.0
    """Seconds for which the rest of a refused request is read: a client that is still sending may miss the answer."""


BOUNDS = Bounds()
BACKLOG, REFUSED = 128, 64
"""Connections that are taken at once, and those beyond the bound that are told so at a time."""
OTHER_FILES = 64
"""Files that an engine has open beside its connections."""


def within_files(bounds: Bounds = BOUNDS) -> Bounds:
    """The bounds, with no more connections than this process may have files open; it is let have enough if it can."""
    others = BACKLOG + REFUSED + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.connections + others
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = bounds.connections if soft == resource.RLIM_INFINITY else max(soft - others, soft // 4)
    return replace(bounds, connections=min(bounds.connections, allowed))


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
            raise _busy(f"{self._held:,} bytes of {self._what}")
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


# ------------------------------------------------------------------------------------------------ application


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
            raise _busy(f"{self._taken} requests")
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


def _busy(what: str) -> RequestError:
    return RequestError(
        f"the engine is busy with {what}; ask again in {RETRY_AFTER_S} s",
        "overloaded",
        503,
        {"Retry-After": str(RETRY_AFTER_S)},
    )


# ------------------------------------------------------------------------------------------------ connections


def server(app: ASGIApp, bounds: Bounds = BOUNDS) -> uvicorn.Server:
    """A server for an application; its `run(sockets=[…])` returns when `should_exit` is set."""
    config = uvicorn.Config(
        app,
        http=partial(JsonProtocol, bounds),  # type: ignore[arg-type]
        ws="none",
        log_level="error",  # or whoever sends what is no HTTP would fill the log
        access_log=False,
        lifespan="off",
        timeout_keep_alive=int(bounds.idle_s),
        backlog=BACKLOG,
    )
    return uvicorn.Server(config)


class JsonProtocol(H11Protocol):
    """One connection."""

    def __init__(self, bounds: Bounds, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self.conn = BoundedConnection(bounds.pieces)
        self._bounds = bounds
        self._deadline: asyncio.TimerHandle | None = None
        self._taken_by: asyncio.TimerHandle | None = None
        self._refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        if len(self.connections) > self._bounds.connections + REFUSED:
            transport.abort()
        elif len(self.connections) > self._bounds.connections:
            self._refuse(_busy(f"{self._bounds.connections} connections"))
        else:
            self.timeout_keep_alive_task = self.loop.call_later(self._bounds.idle_s, self.timeout_keep_alive_handler)

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._disarm()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The client takes its answer more slowly than it comes, or not at all."""
        super().pause_writing()
        self._taken_by = self.loop.call_later(self._bounds.answer_s, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has taken what it was sent."""
        super().resume_writing()
        if self._taken_by is not None:
            self._taken_by.cancel()
            self._taken_by = None

    def data_received(self, data: bytes) -> None:
        if not self._refused:
            super().data_received(data)

    def handle_events(self) -> None:
        super().handle_events()
        if not self._receiving:
            self._disarm()
        elif self._deadline is None:
            self._deadline = self.loop.call_later(self._bounds.request_s, self._late)

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """A client that closed its side is gone, as far as one can tell; its request is given up, and it is told so."""
        if self._refused or not (self._receiving or self._answering):
            return None  # asyncio closes the connection
        said = (
            "before the whole request had arrived" if self._receiving else "before the answer: keep it open until then"
        )
        self._refuse(RequestError(f"the client closed the connection {said}", "client_closed"))
        return True

    def send_400_response(self, msg: str) -> None:
        error = sys.exception()  # the connection's, which the base class does not pass on
        status = getattr(error, "error_status_hint", HTTPStatus.BAD_REQUEST)
        self._refuse(RequestError(f"the request is no HTTP/1.1: {error or msg}", "invalid_http", status))

    def timeout_keep_alive_handler(self) -> None:
        """Close an idle connection, even where its client has not taken the end of an answer."""
        super().timeout_keep_alive_handler()
        self.loop.call_later(self._bounds.answer_s, self.transport.abort)

    def shutdown(self) -> None:
        if self._refused:
            self.transport.close()
        else:
            super().shutdown()

    @property
    def _receiving(self) -> bool:
        """Whether a part of a request has arrived, and not yet the whole."""
        state = self.conn.their_state
        return state is h11.SEND_BODY or (state is h11.IDLE and bool(self.conn.trailing_data[0]))

    @property
    def _answering(self) -> bool:
        return self.cycle is not None and not self.cycle.response_complete

    def _late(self) -> None:
        said = f"the request did not arrive whole within {self._bounds.request_s:g} s"
        self._refuse(RequestError(said, "request_timeout", HTTPStatus.REQUEST_TIMEOUT))

    def _disarm(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _refuse(self, error: RequestError) -> None:
        """Answer what no endpoint can answer, and close the connection."""
        self._refused = True
        self._disarm()
        self._unset_keepalive_if_required()
        if self._answering:
            self.cycle.disconnected = True
            self.cycle.message_event.set()
        response = refusal(error)
        headers = [*response.raw_headers, (b"connection", b"close")]
        events = (
            h11.Response(status_code=response.status_code, headers=headers),
            h11.Data(data=bytes(response.body)),
            h11.EndOfMessage(),
        )
        with suppress(h11.LocalProtocolError):  # another answer has begun
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
        self._close_later()

    def _close_later(self) -> None:
        """End the answer, and read what is still sent for a while: closing at once would reset the connection."""
        self.transport.write_eof()
        self.flow.resume_reading()
        self.loop.call_later(self._bounds.linger_s, self.transport.close)
        self.loop.call_later(self._bounds.answer_s, self.transport.abort)
