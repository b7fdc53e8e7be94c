"""Something that listens where a Docker is expected, and answers each path with what it is told to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

VERSION = {"ApiVersion": "1.41", "Arch": "amd64", "Version": "20.10.24"}
INFO = {"NCPU": 2, "ServerVersion": "20.10.24", "ID": "a", "Name": "b", "DockerRootDir": "/", "CgroupDriver": "systemd"}
Answer = bytes | tuple[int, bytes] | Callable[[], Iterator[bytes]]
"""A body; status and body; or the pieces of a whole answer, its head among them, which may be without an end."""


@contextmanager
def odd_docker(answers: Mapping[str, Answer]) -> Iterator[str]:
    """Listen until the context ends.

    Args:
        answers: the last part of what is asked for, such as `version` or `info` → its answer. One of these two that is
            not named is that of a Docker.

    Yields:
        Its address, for `--docker-host`.
    """
    ended = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            what = urlsplit(self.path).path.rpartition("/")[2]
            usual = json.dumps({"version": VERSION, "info": INFO}.get(what)).encode()
            answer = answers.get(what, usual)
            with suppress(OSError):  # whoever asked has gone
                if callable(answer):
                    for piece in answer():
                        if ended.is_set():
                            return
                        self.wfile.write(piece)
                    return
                status, body = (200, answer) if isinstance(answer, bytes) else answer
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

        do_POST = do_HEAD = do_PUT = do_DELETE = do_GET  # noqa: N815

        def log_message(self, *_: Any) -> None:
            """Nothing is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        try:
            yield f"tcp://127.0.0.1:{server.server_address[1]}"
        finally:
            ended.set()
            server.shutdown()
