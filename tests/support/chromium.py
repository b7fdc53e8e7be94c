"""A real headless Chromium, driven through its DevTools pipe: no driver, no socket, no dependency."""

from __future__ import annotations

import json
import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

_WAIT_S = 60.0
_EXEC = """
import fcntl, os, sys
pipes = [fcntl.fcntl(int(number), fcntl.F_DUPFD, 10) for number in sys.argv[1:3]]
for place, pipe in enumerate(pipes, start=3):
    os.dup2(pipe, place)
os.execv(sys.argv[3], sys.argv[3:])
"""
"""Moves the pipes to the descriptors that Chromium reads and writes, and then runs it in the same process."""


class Chromium:
    """One browser with one page.

    DevTools speaks JSON with a null byte after each message: it reads from file descriptor 3 and writes to 4
    (`--remote-debugging-pipe`).
    """

    def __init__(self, program: str, profile: Path) -> None:
        ours_in, theirs_out = os.pipe()
        theirs_in, ours_out = os.pipe()
        self._process = subprocess.Popen(
            (
                *(sys.executable, "-c", _EXEC, str(theirs_in), str(theirs_out)),
                *(program, "--headless=new", "--disable-gpu"),
                *(["--no-sandbox"] if os.geteuid() == 0 else []),  # Chromium's own needs another user than root
                *("--disable-dev-shm-usage", "--no-first-run", "--hide-scrollbars", "--remote-debugging-pipe"),
                *(f"--user-data-dir={profile}", "about:blank"),
            ),
            pass_fds=(theirs_in, theirs_out),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._out, self._in, self._buffer, self._next = ours_out, ours_in, b"", 0
        self.complaints: list[str] = []
        """Errors and warnings of the page's console, requests that its policy blocked, and exceptions, since `open`."""
        self.requests: list[str] = []
        """URLs that the page requested, except its own."""
        self._session: str | None = None
        target = next(one for one in self.call("Target.getTargets")["targetInfos"] if one["type"] == "page")
        attached = self.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
        self._session = attached["sessionId"]
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.call(f"{domain}.enable")

    def open(self, page: Path, *, dark: bool = False, width: int = 1280, height: int = 900) -> None:
        """Load a file, and wait for all of it."""
        self.call("Emulation.setEmulatedMedia", features=[_feature(dark)])
        self.call(
            "Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=width < 600
        )
        self.call("Page.navigate", url="about:blank")
        self.complaints, self.requests = [], []
        self.call("Page.navigate", url=page.resolve().as_uri())
        self.wait_for("document.readyState === 'complete' && location.protocol === 'file:'")

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression in the page."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found["exceptionDetails"]
        return found["result"].get("value")

    def press(self, key: str, code: int, text: str = "") -> None:
        """A key, as a person presses it; `text` is what it types."""
        about: dict[str, Any] = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.call("Input.dispatchKeyEvent", type="keyDown", text=text, **about)
        self.call("Input.dispatchKeyEvent", type="keyUp", **about)

    def close(self) -> None:
        """End the browser."""
        os.close(self._out)  # its end of the pipe closes, and it ends
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        os.close(self._in)

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """One DevTools command and its result."""
        self._next += 1
        message: dict[str, Any] = {"id": self._next, "method": method, "params": parameters}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._out, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._receive()
            if answer.get("id") == self._next:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])
            self._note(answer)

    def _receive(self) -> dict[str, Any]:
        while b"\0" not in self._buffer:
            ready, _, _ = select.select([self._in], [], [], _WAIT_S)
            data = os.read(self._in, 1 << 20) if ready else b""
            assert data, f"Chromium did not answer (exit code {self._process.poll()})"
            self._buffer += data
        text, _, self._buffer = self._buffer.partition(b"\0")
        return dict(json.loads(text))

    def _note(self, event: dict[str, Any]) -> None:
        detail, method = event.get("params", {}), event.get("method")
        if method == "Log.entryAdded" and detail["entry"]["level"] in {"error", "warning"}:
            self.complaints.append(detail["entry"]["text"])
        elif method == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(detail["exceptionDetails"]))
        elif method == "Runtime.consoleAPICalled" and detail["type"] in {"error", "warning", "assert"}:
            self.complaints.append(json.dumps(detail["args"]))
        elif method == "Network.requestWillBeSent" and detail.get("type") != "Document":
            self.requests.append(detail["request"]["url"])

    def wait_for(self, condition: str) -> None:
        """Wait until a JavaScript condition holds in the page."""
        deadline = time.monotonic() + _WAIT_S
        while not self.ask(condition):
            assert time.monotonic() < deadline, f"the page never came to {condition}"
            time.sleep(0.05)


def _feature(dark: bool) -> dict[str, str]:
    return {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
