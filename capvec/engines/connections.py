"""The connections of an engine's server: what arrives, for how long it may, and what is answered where it is no HTTP.

Uvicorn and h11 serve, and by themselves answer in plain text what is no HTTP, and wait without end for the rest of a
request. `server` makes the server of an application of `serving.endpoints`.
"""

from __future__ import annotations

import asyncio
import resource
import sys
from contextlib import suppress
from dataclasses import replace
from functools import partial
from http import HTTPStatus
from typing import Any

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from capvec.engines.checks import RequestError
from capvec.engines.pieces import BoundedConnection
from capvec.engines.serving import BOUNDS, Bounds, busy, refusal

BACKLOG, REFUSED = 128, 64
"""Connections taken at once, before those to be closed are closed; and those beyond the bound that are told so."""
OTHER_FILES = 64
"""Files that an engine has open beside its connections."""


def within_files(bounds: Bounds = BOUNDS) -> Bounds:
    """The bounds, with no more connections than this process may have files open; it is let have enough if it can."""
    others = 2 * BACKLOG + REFUSED + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = bounds.connections + others
    if resource.RLIM_INFINITY != soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    allowed = bounds.connections if soft == resource.RLIM_INFINITY else max(soft - others, soft // 4)
    return replace(bounds, connections=min(bounds.connections, allowed))


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
            self._refuse(busy(f"{self._bounds.connections} connections"))
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
