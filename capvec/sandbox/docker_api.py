"""The Docker SDK's calls within bounds of time and size, and with answers of Docker's form, whatever answers.

The SDK waits anew for every byte, reads an answer to its end however long that is, and looks keys up in whatever JSON
arrives. A host that is broken, or something else in its place, so ends in no hang, no full memory and no KeyError.
"""

from __future__ import annotations

import errno
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from typing import Any, TypeVar
from urllib.parse import urlsplit

import docker
import docker.errors
import docker.utils
import requests.utils

from capvec.parsing import parse_json
from capvec.programs import looked_up
from capvec.reading import MIB, size
from capvec.sandbox.docker_forms import NoDocker, check_answer, check_entry, without_version
from capvec.text import one_line

LARGEST = 64 * MIB
"""Bytes of an answer, and of what a stream says in one line; the properties of 10,000 containers have less."""
SLOWEST = 64 << 10
"""Bytes a second that a request's data or an archive may take, beyond the time for an answer."""
STREAM_S = 3600.0
"""Seconds in which a pull or an import ends."""
_PIECE = 4096
"""Bytes that are waited for at a time, so that one who sends them slowly is left soon after the time is up."""
_ARCHIVE_PIECE = 64 << 10
_GRACE_S = 0.5
"""In which the socket's own reason comes, where nothing was said at all."""
_TICK_S = 0.5
_ERROR, OWN_FAULT = 400, 500
"""The least status that is an error, and the least that says that what answers has failed by itself."""
_SWITCHED, _RAW = 101, "application/vnd.docker."
"""Status and beginning of the type of an answer after which the connection is a program's; Docker may leave out one."""
_AGAIN_S = 0.2
"""Before a request is sent again."""
_Found = TypeVar("_Found")


class TooLong(NoDocker):
    """An answer has more bytes than are read of one."""


class DockerAPI(docker.APIClient):  # type: ignore[misc]
    """The SDK's own client of the API, bounded.

    An answer comes within the client's `timeout`, and has at most `LARGEST` bytes. A stream is silent for no longer
    than the timeout, events excepted, of which an idle Docker has none.

    An answer that Docker failed by itself (status 500 and above) is believed where it comes twice: to the same request,
    sent again, or of a program that is started anew (`capvec.sandbox.processes`).
    """

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        """As the SDK's, with the proxies that the environment names now.

        requests would look through the environment at every request, which pytest changes meanwhile: in another thread,
        that is a KeyError.
        """
        super().__init__(*arguments, **settings)
        self.proxies, self.trust_env = looked_up(lambda: requests.utils.get_environ_proxies(self.base_url)), False

    def send(self, request: Any, **settings: Any) -> Any:
        """Send a request, and read its answer unless it is a stream."""
        response = self._send(request, **settings)
        if response.status_code < OWN_FAULT or not _may_be_sent_again(request):
            return response
        response.close()
        time.sleep(_AGAIN_S)
        if getattr(request, "_body_position", None) is not None:  # of a file
            requests.utils.rewind_body(request)
        return self._send(request, **settings)

    def _send(self, request: Any, **settings: Any) -> Any:
        what, streamed = _asked(request), settings.get("stream")
        endless = what.endswith("/events")
        limit_s = settings.get("timeout") or self.timeout
        sent = int(request.headers.get("Content-Length") or 0)
        settings |= {"stream": True, "timeout": (limit_s, None if endless else limit_s)}

        def answer() -> Any:
            response = super(DockerAPI, self).send(request, **settings)
            response.encoding = response.encoding or "utf-8"  # or else it would be guessed from all of the body
            if not streamed:
                _keep(response, _body(response, what, limit_s, LARGEST))
            return response

        return _within(answer, what, limit_s + sent / SLOWEST)

    def get_redirect_target(self, resp: Any) -> None:
        """Nowhere: Docker redirects nobody."""

    def body(self, response: Any, what: str, limit_s: float, largest: int = LARGEST) -> bytes:
        """The body of an answer.

        Args:
            response: a stream of which nothing has been read.
            what: was asked, for messages.
            limit_s: seconds for all of it.
            largest: bytes that it may have.

        Raises:
            TooLong: it has more.
            OSError: it has not come in time.
        """
        return _within(lambda: _body(response, what, limit_s, largest), what, limit_s)

    def get_archive(self, container: str, path: str, *settings: Any, **named: Any) -> Any:
        """As the SDK's, which takes properties of a path as they come."""
        try:
            chunks, stat = super().get_archive(container, path, *settings, **named)
        except ValueError as error:  # of base64, too
            raise NoDocker(f"its properties of a path cannot be read ({one_line(str(error))})") from error
        return chunks, checked_properties(stat)

    def _raise_for_status(self, response: Any) -> None:
        if response.status_code >= _ERROR and not response._content_consumed:
            _keep(response, self.body(response, _asked(response.request), self.timeout, MIB))
        try:
            super()._raise_for_status(response)
        except (KeyError, TypeError, AttributeError, RecursionError):  # of the SDK, which looks for a message
            said = one_line(response.text)
            raise NoDocker(f"it answers with status {response.status_code}: {said or 'nothing'}") from None

    def _result(self, response: Any, json: bool = False, binary: bool = False) -> Any:
        if not json:
            return super()._result(response, binary=binary)
        self._raise_for_status(response)
        request = response.request
        return check_answer(request.method, urlsplit(request.url).path, _parsed(response.content))

    def _get_raw_response_socket(self, response: Any) -> Any:
        """The connection of a program, after the head of an answer that opens one."""
        self._raise_for_status(response)
        kind = str(response.headers.get("Content-Type") or "none")
        if response.status_code != _SWITCHED and not kind.startswith(_RAW):
            response.close()
            raise NoDocker(f"its answer to {_asked(response.request)} is of the type {one_line(kind)}; no {_RAW}…")
        return super()._get_raw_response_socket(response)

    def _check_is_tty(self, container: str) -> bool:
        return bool((self.inspect_container(container)["Config"] or {}).get("Tty"))

    def _stream_helper(self, response: Any, decode: bool = False) -> Iterator[Any]:
        """What a stream says: its pieces, or the objects of its lines."""
        self._raise_for_status(response)
        if not decode:
            return response.iter_content(_PIECE)  # type: ignore[no-any-return]
        pieces = _paced(response, _PIECE, lambda _received: STREAM_S)
        return (check_entry(_parsed(line)) for line in _lines(pieces) if line.strip())

    def _stream_raw_result(self, response: Any, *_: Any, **__: Any) -> Iterator[bytes]:
        self._raise_for_status(response)
        limit_s = self.timeout
        return _paced(response, _ARCHIVE_PIECE, lambda received: limit_s + received / SLOWEST)


def checked_properties(stat: Any) -> dict[str, Any]:
    """The properties of a path in a container.

    Raises:
        NoDocker: they are not of Docker's form.
    """
    found: dict[str, Any] = check_answer("HEAD", "/archive", stat)
    return found


def read_properties(header: str) -> dict[str, Any]:
    """The properties of a path in a container from the header of an answer.

    Raises:
        NoDocker: it holds none.
    """
    try:
        return checked_properties(docker.utils.decode_json_header(header))
    except (ValueError, RecursionError) as error:
        raise NoDocker(f"its properties of a path cannot be read ({one_line(str(error))})") from error


def joined(chunks: Iterable[bytes], largest: int) -> bytes:
    """An archive that is to have at most so many bytes.

    Raises:
        TooLong: it has more.
    """
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > largest:
            raise TooLong(f"its archive of a file has more than {size(largest)}, and was to have less")
    return bytes(data)


def _body(response: Any, what: str, limit_s: float, largest: int) -> bytes:
    deadline, data = time.monotonic() + limit_s, bytearray()
    with closing(response):
        for piece in response.iter_content(_PIECE):
            data += piece
            if len(data) > largest:
                raise TooLong(f"its answer to {what} has more than {size(largest)}")
            if time.monotonic() > deadline:
                raise _late(what, limit_s)
    return bytes(data)


def _keep(response: Any, data: bytes) -> None:
    """Let an answer have the body that was read of it."""
    response._content, response._content_consumed = data, True


def _may_be_sent_again(request: Any) -> bool:
    """Whether it does nothing twice, and takes no long time. A program that failed to start is not started again."""
    return request.method in ("GET", "HEAD") or without_version(urlsplit(request.url).path).startswith("/containers/")


def _asked(request: Any) -> str:
    """A request as messages name it."""
    return f"{request.method} {one_line(without_version(urlsplit(request.url).path))}"


def _parsed(data: bytes) -> Any:
    try:
        return parse_json(data, finite=True)
    except ValueError as error:
        raise NoDocker(f"its answer is no JSON ({one_line(str(error))})") from error


def _lines(pieces: Iterable[bytes]) -> Iterator[bytes]:
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        if len(rest) > MIB:
            raise TooLong(f"it says more than {size(MIB)} in one line")
        yield from lines
    yield rest


def _paced(response: Any, piece: int, limit_s: Callable[[int], float]) -> Iterator[bytes]:
    """The pieces of a stream, which is cut off where it takes longer than a limit for the bytes that have come."""
    began, received, ended, late = time.monotonic(), 0, threading.Event(), threading.Event()

    def watch() -> None:
        while not ended.wait(_TICK_S):
            if time.monotonic() - began > limit_s(received):
                late.set()
                with suppress(OSError, ValueError, RuntimeError):  # it has ended by itself
                    response.raw.shutdown()
                return

    threading.Thread(target=watch, name="docker-stream", daemon=True).start()
    try:
        with closing(response):
            for data in response.iter_content(piece):
                received += len(data)
                yield data
    except Exception:
        if not late.is_set():
            raise
    finally:
        ended.set()
    if late.is_set():
        raise TimeoutError(errno.ETIMEDOUT, f"it sent {size(received)} of a stream in {limit_s(received):.3g} s")


def _within(ask: Callable[[], _Found], what: str, limit_s: float) -> _Found:
    """What comes in time. The timeout of a socket begins anew with every byte, even of the head of an answer."""
    found: list[_Found] = []
    failed: list[BaseException] = []

    def keep() -> None:
        try:
            found.append(ask())
        except BaseException as error:
            failed.append(error)

    asking = threading.Thread(target=keep, name=f"docker {what}", daemon=True)
    asking.start()
    asking.join(limit_s + _GRACE_S)
    if failed:
        raise failed[0]
    if not found:
        raise _late(what, limit_s)
    return found[0]


def _late(what: str, limit_s: float) -> TimeoutError:
    return TimeoutError(errno.ETIMEDOUT, f"it does not answer {what} within {limit_s:g} s")
