"""How the program of an engine starts: its arguments, its token, the line that says it is ready, and its end."""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

import uvicorn

from capvec.engines.protocol import LOOPBACK, TOKEN_VARIABLE
from capvec.errors import UsageError


def parser_of(module: str, description: str | None) -> argparse.ArgumentParser:
    """The arguments with which `process.start_engine` starts an engine."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    add = parser.add_argument
    add("--model", required=True, help="a folder or a Hugging Face id")
    add("--label", help="what reports call the model (default: the same)")
    add("--context-length", type=int, help="overrides the config's")
    add("--defaults", default="{}", help="JSON: the model's `GenerationDefaults`")
    add("--host", default=LOOPBACK, help="address to listen on")
    add("--port", type=int, default=0, help="default: a free one")
    add("--receipts", type=Path, help="file for a line of JSON for each reply of a published config")
    return parser


def token_or_exit() -> str:
    """The bearer token from the environment; the program ends without one."""
    if token := os.environ.get(TOKEN_VARIABLE):
        return token
    print(f"{TOKEN_VARIABLE} is not set; the engine requires a token", file=sys.stderr)
    sys.exit(2)


class ReadyLine:
    """Standard output, which is for one line; what libraries and their processes print goes to the log."""

    def __init__(self) -> None:
        sys.stdout.flush()
        self._file: IO[str] = os.fdopen(os.dup(1), "w")
        os.register_at_fork(after_in_child=self._file.close)  # it ends with this process
        os.dup2(2, 1)
        sys.stdout = sys.stderr

    def write(self, **answer: Any) -> None:
        """Say `{"url": …}` or `{"error": …}`."""
        print(json.dumps(answer), file=self._file, flush=True)


def bind(host: str, port: int) -> socket.socket:
    """A socket at an address, which does not listen yet; port 0 takes a free one.

    Raises:
        UsageError: the address is not this machine's, or is in use.
    """
    try:
        family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
        listener = socket.socket(family)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
    except (OSError, OverflowError) as error:
        raise UsageError(f"cannot listen on {host}, port {port}: {error}; choose another --host or --port") from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address of a listener, for a client on this machine."""
    host, port = listener.getsockname()[:2]
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


END_S = 30.0
"""Time for a server to end after its parent did: for replies that are being sent, and for what it writes at its end."""


class Parent:
    """The process that started this one, which the engine must not outlive: its end is that of standard input."""

    def __init__(self) -> None:
        """Begin to watch. Until the server runs, the end of the parent ends this process and those that it started."""
        self._server: uvicorn.Server | None = None
        threading.Thread(target=self._wait, daemon=True).start()

    def ends(self, server: uvicorn.Server) -> None:
        """From now on, the end of the parent ends the server, and this process at the latest `END_S` later."""
        self._server = server

    def _wait(self) -> None:
        while os.read(0, 4096):  # `sys.stdin` has a lock, which a process that is forked meanwhile would wait for
            pass
        if self._server is not None:
            self._server.should_exit = True
            time.sleep(END_S)
        if os.getpgrp() == os.getpid():
            os.killpg(0, signal.SIGKILL)
        else:  # the group is another's
            os._exit(1)
