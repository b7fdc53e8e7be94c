"""`capvec serve` as a process, and its answers as any client has them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

TOKEN = "standing-token"


@dataclass(frozen=True)
class ServedModels:
    """A running `capvec serve`."""

    url: str
    receipts: Path

    def ask(self, path: str, body: dict[str, Any] | None = None, token: str = TOKEN) -> httpx.Response:
        """The answer to a `GET`, or to a `POST` of JSON."""
        method = "GET" if body is None else "POST"
        headers = {"Authorization": f"Bearer {token}"}
        return httpx.request(method, self.url + path, headers=headers, json=body, timeout=600, trust_env=False)

    def chat(self, model: str, **fields: Any) -> dict[str, Any]:
        """A chat completion; fails on a refusal."""
        body = {"model": model, "messages": [{"role": "user", "content": "hello"}], "max_tokens": 6} | fields
        answer = self.ask("/v1/chat/completions", body)
        assert answer.is_success, answer.text
        return dict(answer.json())

    def events(self, path: str, **fields: Any) -> list[Any]:
        """The data of the events of a stream, parsed; `[DONE]` is a text."""
        answer = self.ask(path, {"stream": True} | fields)
        assert answer.is_success, answer.text
        assert answer.headers["content-type"].startswith("text/event-stream")
        data = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
        return [one if one == "[DONE]" else json.loads(one) for one in data]

    def lines(self) -> list[dict[str, Any]]:
        """The lines of the receipts file."""
        return [json.loads(line) for line in self.receipts.read_text().splitlines()]


@contextmanager
def capvec_serve(folder: Path, *arguments: str) -> Iterator[ServedModels]:
    """Run `capvec serve` with its receipts and its log in `folder`, and with the token `TOKEN`."""
    own = ["--receipts", str(folder / "receipts.jsonl"), "--log", str(folder / "engine.log"), "--token", TOKEN]
    command = [sys.executable, "-m", "capvec.commands.main", "serve", *own, *arguments]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        said = ""
        while "--base-url " not in said:
            line = process.stdout.readline()
            assert line, process.communicate()[1]
            said += line
        yield ServedModels(said.rpartition("--base-url ")[2].strip(), folder / "receipts.jsonl")
    finally:
        process.terminate()
        process.communicate(timeout=60)
