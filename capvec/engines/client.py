"""The engine as a client sees it: a `ChatModel` that steers, captures and holds directions. Imports no torch."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Self

import httpx
import safetensors
import safetensors.numpy

from capvec.engines.protocol import Captured, DirectionInfo, EngineInfo
from capvec.errors import ContextOverflow, EngineUnavailable, SteeringFault, UsageError
from capvec.records import Message, Reply
from capvec.steering import IsolationCheck, Receipt, Steer

TIMEOUT_S = 600.0
"""One reply; a busy engine on a small machine is slow, a dead one refuses the connection at once."""


class EngineClient:
    """Talks to an engine, or to any OpenAI-compatible server that knows `steering`. A context manager."""

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # The engine is on loopback: a proxy from the environment would only be in the way.
        self._http = httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_S, trust_env=False)
        self._url = url

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> EngineInfo:
        """What the engine says about itself and its model.

        Raises:
            EngineUnavailable: no answer, or not one of a capvec engine.
        """
        data = self._ask("GET", "/health")
        try:
            return EngineInfo.from_json(data)
        except UsageError as error:
            raise EngineUnavailable(f"{self._url}/health is not a capvec engine's: {error}") from error

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str] = (),
        steers: Sequence[Steer] = (),
    ) -> Reply:
        """Answer a conversation under `steers`.

        Raises:
            ContextOverflow: the prompt leaves no room for a reply.
            SteeringFault: the engine could not steer.
            EngineUnavailable: no answer, or not one we understand.
        """
        body: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "seed": seed,
            "max_tokens": max_tokens,
            "temperature": temperature,
        }
        if stop:
            body["stop"] = list(stop)
        if steers:
            body["steering"] = [steer.to_json() for steer in steers]
        started = time.monotonic()
        data = self._ask("POST", "/v1/chat/completions", json=body)
        elapsed = time.monotonic() - started
        try:
            choice, usage = data["choices"][0], data["usage"]
            isolation = choice.get("steering_isolation")
            return Reply(
                text=choice["message"]["content"] or "",
                finish_reason="length" if choice["finish_reason"] == "length" else "stop",
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"],
                model_s=round(elapsed, 4),
                cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                cached_under=tuple(Steer.from_json(steer) for steer in choice.get("steering_of_cached", ())),
                receipts=tuple(Receipt.from_json(receipt) for receipt in choice.get("steering_receipts", ())),
                isolation=IsolationCheck.from_json(isolation) if isolation is not None else None,
            )
        except (KeyError, IndexError, TypeError, UsageError) as error:
            raise EngineUnavailable(f"{self._url} sent a reply that is not a chat completion: {error!r}") from error

    def capture(
        self, conversations: Sequence[Sequence[Message]], pooling: str = "last", *, names: Sequence[str] = ()
    ) -> Captured:
        """The residual of every layer of each conversation, pooled.

        Args:
            conversations: each not empty.
            pooling: one of `capvec.directions.recipe.POOLINGS`.
            names: what errors call the conversations.

        Raises:
            UsageError: an unknown pooling, or a conversation without a token to pool.
            EngineUnavailable: no answer, or not one we understand.
        """
        body = {
            "conversations": [[dict(message) for message in conversation] for conversation in conversations],
            "pooling": pooling,
            "names": list(names),
        }
        response = self._send("POST", "/v1/capture", json=body, timeout=TIMEOUT_S * max(1, len(conversations)))
        try:
            return Captured(**safetensors.numpy.load(response.content))
        except (safetensors.SafetensorError, TypeError) as error:
            raise EngineUnavailable(f"{self._url}/v1/capture sent no residuals of capvec's: {error}") from error

    def put_direction(self, data: bytes) -> DirectionInfo:
        """Send a direction to the engine, which keeps it; steers then name it by its hash.

        Args:
            data: a safetensors file with `directions`, `[n_layers, d_model]`, as `Direction.to_bytes` makes it.

        Raises:
            UsageError: the engine cannot read the file, or the direction does not fit its model.
        """
        return DirectionInfo.from_json(self._ask("POST", "/v1/directions", content=data))

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        response = self._send(method, path, **arguments)
        try:
            return response.json()
        except ValueError as error:
            raise EngineUnavailable(f"{self._url}{path} sent no JSON: is this an engine of capvec's?") from error

    def _send(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            response = self._http.request(method, path, **arguments)
        except httpx.HTTPError as error:
            raise EngineUnavailable(
                f"the engine at {self._url} did not answer: {type(error).__name__}: {error}"
            ) from error
        if response.is_success:
            return response
        raise _fault(response, self._url)


def _fault(response: httpx.Response, url: str) -> Exception:
    """The exception that an error answer stands for."""
    try:
        error = response.json()["error"]
        code, message = error.get("code"), str(error.get("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = None, response.text[:200]
    if code == "context_length_exceeded":
        return ContextOverflow(message)
    if code == "steering_fault":
        return SteeringFault(message)
    if code == "invalid_value":
        return UsageError(message)
    hint = " (the token goes into CAPVEC_ENGINE_TOKEN)" if response.status_code == 401 else ""
    return EngineUnavailable(f"the engine at {url} refused: {response.status_code} {message}{hint}")
