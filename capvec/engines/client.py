"""The engine as a client sees it: a `ChatModel` that steers, captures and holds directions. Imports no torch."""

from __future__ import annotations

import re
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self

import httpx
import safetensors
import safetensors.numpy

from capvec.engines.generation import PLAIN, Shaping
from capvec.engines.protocol import CLIENT_IDLE_S, Captured, DirectionInfo, EngineInfo, EngineState, Weights
from capvec.errors import ContextOverflow, EngineUnavailable, SteeringFault, UsageError
from capvec.parsing import parse_json
from capvec.reading import GIB, MIB
from capvec.records import Config, Message, Reply, Thinking
from capvec.steering import IsolationCheck, Receipt, Steer
from capvec.storage import no_more_files
from capvec.thoughts import Said, ThoughtTags, split_thought

TIMEOUT_S = 600.0
"""For one reply: a busy engine on a small machine is slow; a dead one refuses the connection at once."""
PROBE_S = 10.0
"""For an answer that needs no model. An engine that takes longer is stalled."""
RETRY_AFTER_MAX_S = 60.0
"""A server that asks for a longer wait counts as not available."""
MOST_JSON, MOST_RESIDUALS = 64 * MIB, GIB + 64 * MIB
"""Most bytes that are read of an answer in JSON, and of one to a capture, for which an engine has 1 GiB at most."""
_BROKEN = (httpx.RemoteProtocolError, httpx.ReadError, httpx.WriteError)
"""The connection ended before the answer: a server closed it when it was idle, or died."""


@dataclass(frozen=True)
class _Answer:
    """An answer that was read whole."""

    url: str
    status: int
    retry_after: str
    content: bytes

    @property
    def is_success(self) -> bool:
        return 200 <= self.status < 300


class EngineClient:
    """A client of an engine, or of any OpenAI-compatible server that supports `steering`. A context manager.

    Args:
        url: of the engine.
        token: bearer token; empty sends none.
    """

    def __init__(self, url: str, token: str) -> None:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        # The engine is on loopback, so proxies from the environment must not apply.
        limits = httpx.Limits(keepalive_expiry=CLIENT_IDLE_S)
        self._http = httpx.Client(
            base_url=url.rstrip("/"), headers=headers, timeout=TIMEOUT_S, trust_env=False, limits=limits
        )
        self._url = url
        self._directions: dict[str, bytes] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def health(self) -> EngineInfo:
        """The engine's description of itself and its model.

        Raises:
            EngineUnavailable: there is no answer, or it is not a capvec engine's.
        """
        return self._health(TIMEOUT_S)

    def state(self) -> EngineState | None:
        """What the engine holds and does at this moment; None where it does not tell.

        Raises:
            EngineUnavailable: it does not answer.
        """
        response = self._request("GET", "/v1/state", timeout=PROBE_S)
        try:
            return EngineState.from_json(self._json(response)) if response.is_success else None
        except UsageError as error:
            raise EngineUnavailable(f"{response.url} is not a capvec engine's: {error}") from error

    def check(self, weights: Weights, directions: Collection[str] = ()) -> None:
        """Make sure that the engine is there, and what it was when the run began.

        Args:
            weights: those that it must serve.
            directions: hashes of those that it must hold.

        Raises:
            EngineUnavailable: it is not.
        """
        info = self._health(PROBE_S)
        if info.weights != weights:
            raise EngineUnavailable(f"the engine at {self._url} now serves {info.weights}; expected {weights}")
        state = self.state()
        if state is not None and (missing := set(directions) - set(state.directions)):
            raise EngineUnavailable(
                f"the engine at {self._url} was started again, and does not hold {len(missing)} of the directions yet"
            )

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str] = (),
        steers: Sequence[Steer] = (),
        thinking: Thinking | None = None,
        shaping: Shaping = PLAIN,
        grammar: str = "",
        continuation: str = "",
    ) -> Reply:
        """Answer a conversation under `steers`.

        Args: as `capvec.agent.model.ChatModel.complete`.

        Raises:
            ContextOverflow: the prompt leaves no room for a reply.
            SteeringFault: the engine could not steer.
            EngineUnavailable: there is no valid answer.
        """
        body: dict[str, Any] = {
            "messages": [dict(message) for message in messages],
            "seed": seed,
            "temperature": temperature,
            "steering": [steer.to_json() for steer in steers],
        }
        body |= {"continuation": continuation, "logprobs": True} if continuation else {"max_tokens": max_tokens}
        if stop:
            body["stop"] = list(stop)
        if thinking is not None:
            body["thinking"] = thinking
        plain = PLAIN.to_json()
        body |= {name: value for name, value in shaping.to_json().items() if value != plain[name]}
        if grammar:
            body["structured_outputs"] = {"regex": grammar}
        started = time.monotonic()
        data = self._ask("POST", "/v1/chat/completions", json=body)
        elapsed = time.monotonic() - started
        try:
            choice, usage = data["choices"][0], data["usage"]
            said = _said(choice["message"])
            isolation = choice.get("steering_isolation")
            return Reply(
                text=said.answer,
                finish_reason="length" if choice["finish_reason"] == "length" else "stop",
                prompt_tokens=usage["prompt_tokens"],
                completion_tokens=usage["completion_tokens"],
                model_s=round(elapsed, 4),
                cached_tokens=(usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0,
                cached_under=tuple(Steer.from_json(steer) for steer in choice.get("steering_of_cached", ())),
                receipts=tuple(Receipt.from_json(receipt) for receipt in choice.get("steering_receipts", ())),
                isolation=IsolationCheck.from_json(isolation) if isolation is not None else None,
                thought=said.thought,
                tags=ThoughtTags.from_json(tags) if (tags := choice.get("thought_tags")) else None,
                logprob=sum(float(one["logprob"]) for one in choice["logprobs"]["content"]) if continuation else None,
            )
        except (KeyError, IndexError, TypeError, AttributeError, ValueError, UsageError) as error:
            raise EngineUnavailable(f"{self._url} sent a reply that is not a chat completion: {error!r}") from error

    def capture(
        self, conversations: Sequence[Sequence[Message]], pooling: str = "last", *, names: Sequence[str] = ()
    ) -> Captured:
        """Capture the residual of every layer of each conversation, pooled.

        Args:
            conversations: each not empty.
            pooling: one of `capvec.pooling.POOLINGS`.
            names: of the conversations, for error messages.

        Raises:
            UsageError: an unknown pooling, or a conversation without a token to pool.
            EngineUnavailable: there is no valid answer.
        """
        body = {
            "conversations": [[dict(message) for message in conversation] for conversation in conversations],
            "pooling": pooling,
            "names": list(names),
        }
        timeout = TIMEOUT_S * max(1, len(conversations))
        response = self._send("POST", "/v1/capture", json=body, timeout=timeout, most=MOST_RESIDUALS)
        try:
            return Captured(**safetensors.numpy.load(response.content))
        except (safetensors.SafetensorError, TypeError) as error:
            raise EngineUnavailable(f"{self._url}/v1/capture sent no captured residuals: {error}") from error

    def put_direction(self, data: bytes) -> DirectionInfo:
        """Send a direction to the engine; steers then name it by its hash.

        Args:
            data: a safetensors file with `directions`, `[n_layers, d_model]`, as `Direction.to_bytes` makes it.

        Raises:
            UsageError: the engine cannot read the file, or the direction does not fit its model.
        """
        info = DirectionInfo.from_json(self._ask("POST", "/v1/directions", content=data))
        self._directions[info.hash] = data
        return info

    def publish(self, configs: Sequence[Config]) -> tuple[str, ...]:
        """Offer configs to any client as models; their directions have been sent. Returns the names of the models.

        Raises:
            EngineUnavailable: the engine publishes others already, or there is no valid answer.
        """
        listed = self._ask("POST", "/v1/configs", json={"configs": [config.to_json() for config in configs]})
        try:
            return tuple(str(one["id"]) for one in listed["data"])
        except (KeyError, TypeError) as error:
            raise EngineUnavailable(f"{self._url}/v1/configs sent no list of models: {error!r}") from error

    def restore_directions(self, held: Collection[str] = ()) -> None:
        """Send the directions again that this client sent, except for those that the engine holds.

        Raises:
            EngineUnavailable: it does not answer.
        """
        for key in self._directions.keys() - set(held):
            self._ask("POST", "/v1/directions", content=self._directions[key], timeout=PROBE_S)

    def _health(self, timeout_s: float) -> EngineInfo:
        data = self._ask("GET", "/health", timeout=timeout_s)
        if data == {"status": "ok"}:  # what a probe without a token learns
            raise EngineUnavailable(f"{self._url} answers and wants a token; give it in CAPVEC_ENGINE_TOKEN")
        try:
            return EngineInfo.from_json(data)
        except UsageError as error:
            raise EngineUnavailable(f"{self._url}/health is not a capvec engine's: {error}") from error

    def _ask(self, method: str, path: str, **arguments: Any) -> Any:
        return self._json(self._send(method, path, **arguments))

    def _json(self, response: _Answer) -> Any:
        try:
            return parse_json(response.content)
        except ValueError as error:
            raise EngineUnavailable(f"{response.url} sent no JSON: is this a capvec engine?") from error

    def _send(self, method: str, path: str, **arguments: Any) -> _Answer:
        deadline = time.monotonic() + TIMEOUT_S
        response = self._request(method, path, **arguments)
        while (wait := _busy_for(response)) is not None and time.monotonic() + wait < deadline:
            time.sleep(wait)
            response = self._request(method, path, **arguments)
        if response.is_success:
            return response
        raise _fault(response, self._url)

    def _request(self, method: str, path: str, **arguments: Any) -> _Answer:
        try:
            try:
                return self._read(method, path, **arguments)
            except _BROKEN:
                # Every request of the protocol has the same answer when it is sent again.
                return self._read(method, path, **arguments)
        except httpx.HTTPError as error:
            why = no_more_files(error) or f"{type(error).__name__}: {error}"
            raise EngineUnavailable(f"the engine at {self._url} did not answer: {why}") from error

    def _read(
        self, method: str, path: str, *, timeout: float = TIMEOUT_S, most: int = MOST_JSON, **arguments: Any
    ) -> _Answer:
        """An answer of at most `most` bytes, which arrives within `timeout` seconds once it has begun."""
        with self._http.stream(method, path, timeout=timeout, **arguments) as response:
            url, content, deadline = str(response.url), bytearray(), time.monotonic() + timeout
            for part in response.iter_bytes():
                content += part
                if len(content) > most:
                    raise EngineUnavailable(f"{url} sent more than {most:,} bytes: is this a capvec engine?")
                if time.monotonic() > deadline:
                    raise EngineUnavailable(f"{url} did not end its answer within {timeout:.0f} s")
            return _Answer(url, response.status_code, response.headers.get("retry-after", ""), bytes(content))


def _busy_for(response: _Answer) -> float | None:
    """Seconds after which a busy server wants to be asked again; None if it says nothing of that."""
    asked = response.retry_after
    if response.status not in {429, 503} or not re.fullmatch(r"\d{1,4}", asked):
        return None
    return float(asked) if float(asked) <= RETRY_AFTER_MAX_S else None


def _said(message: Mapping[str, Any]) -> Said:
    """Thought and answer; split here where the server leaves both, with their tags, in the content."""
    content, thought = message["content"] or "", message.get("reasoning_content")
    return Said(thought, content) if thought else split_thought(content, opened=False)


def _fault(response: _Answer, url: str) -> Exception:
    """The exception that an error answer stands for."""
    try:
        error = parse_json(response.content)["error"]
        code, message = error.get("code"), str(error.get("message"))
    except (ValueError, KeyError, TypeError, AttributeError):
        code, message = None, response.content[:200].decode(errors="replace")
    if code == "context_length_exceeded":
        return ContextOverflow(message)
    if code == "steering_fault":
        return SteeringFault(message)
    if code in {"invalid_value", "request_too_large"}:
        return UsageError(message)
    hint = " (the token goes into CAPVEC_ENGINE_TOKEN)" if response.status == 401 else ""
    return EngineUnavailable(f"the engine at {url} refused: {response.status} {message}{hint}")
