"""The pieces in which the body of a request arrives: each costs the server time, however small it is."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

import h11


class BoundedConnection(h11.Connection):
    """A server's side of a connection, which refuses a body in more than so many pieces, or of two lengths.

    A chunk of one byte is six bytes to send, and takes as long to read as one of a kilobyte. A server with a few
    connections full of them does nothing else.

    Where a request has both a `Content-Length` and chunks, h11 goes by the chunks. A proxy that goes by the length lets
    requests through that it has not seen.
    """

    def __init__(self, most: int) -> None:
        """Begin without a request; `most` pieces make a body."""
        super().__init__(h11.SERVER)
        self._most, self._pieces = most, 0

    def next_event(self) -> Any:
        """As of h11.

        Raises:
            RemoteProtocolError: the body has too many pieces or two lengths, or as of h11.
        """
        event = super().next_event()
        if isinstance(event, h11.Request):
            self._pieces = 0
            if {b"content-length", b"transfer-encoding"} <= {name for name, _ in event.headers}:
                raise h11.RemoteProtocolError("both Content-Length and Transfer-Encoding")
        elif isinstance(event, h11.Data):
            self._pieces += 1
            if self._pieces > self._most:
                raise h11.RemoteProtocolError(
                    f"its body comes in more than {self._most:,} pieces; send larger ones",
                    error_status_hint=HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                )
        return event
