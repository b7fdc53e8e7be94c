"""Checks of the request bodies of `protocol`'s endpoints, for every engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.errors import SteeringFault, UsageError
from capvec.pooling import parse_pooling
from capvec.records import Message, Thinking
from capvec.steering import Steer

_CHAT_FIELDS = frozenset(
    "model messages max_tokens max_completion_tokens temperature seed stop steering thinking n stream".split()
)
_CAPTURE_FIELDS = frozenset(("conversations", "pooling", "names"))


class RequestError(Exception):
    """A request is refused.

    Args:
        message: what was received and what was expected.
        code: OpenAI's, if it has one for this error.
        status: of the HTTP response.
    """

    def __init__(self, message: str, code: str, status: int = 400) -> None:
        super().__init__(message)
        self.code, self.status = code, status


@dataclass(frozen=True)
class ChatRequest:
    """A body of `POST /v1/chat/completions`."""

    messages: tuple[Message, ...]
    max_tokens: int | None
    """None for as many as the context has room for."""
    seed: int
    temperature: float
    stop: tuple[str, ...]
    steers: tuple[Steer, ...]
    thinking: Thinking | None = None


@dataclass(frozen=True)
class CaptureRequest:
    """A body of `POST /v1/capture`."""

    conversations: tuple[tuple[Message, ...], ...]
    pooling: str
    names: tuple[str, ...]
    """The conversations' names in errors."""


def error_response(error: Exception) -> tuple[dict[str, Any], int]:
    """The JSON body and HTTP status of an exception, as `capvec.engines.client` reads them."""
    message, code, status = str(error), "engine_fault", 500
    if isinstance(error, RequestError):
        code, status = error.code, error.status
    elif isinstance(error, UsageError):
        code, status = "invalid_value", 400
    elif isinstance(error, SteeringFault):
        code = "steering_fault"
    else:
        message = f"{type(error).__name__}: {error}"
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "code": code}}, status


def parse_chat(raw: bytes, n_layers: int) -> ChatRequest:
    """Check the body of a chat completion for a model of `n_layers`.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type or range.
    """
    body = _object(raw, _CHAT_FIELDS)
    if body.get("stream") or body.get("n", 1) != 1:
        raise RequestError("n and stream: expected n = 1 without stream", "unsupported_value")
    wanted = body.get("max_completion_tokens", body.get("max_tokens"))
    return ChatRequest(
        messages=_messages(body.get("messages")),
        max_tokens=None if wanted is None else _whole(wanted, "max_tokens", least=1),
        seed=_whole(body.get("seed") or 0, "seed"),
        temperature=_number(body.get("temperature", 1.0), "temperature", least=0),
        stop=_stop(body.get("stop") or []),
        steers=_steers(body.get("steering") or (), n_layers),
        thinking=_thinking(body.get("thinking")),
    )


def parse_capture(raw: bytes) -> CaptureRequest:
    """Check the body of a capture.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type.
        UsageError: an unknown pooling.
    """
    body = _object(raw, _CAPTURE_FIELDS)
    conversations = body.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise _invalid("conversations: expected a list of lists of messages, not empty")
    names = body.get("names") or [f"conversation {number}" for number in range(1, len(conversations) + 1)]
    if (
        not isinstance(names, list)
        or len(names) != len(conversations)
        or not all(isinstance(name, str) for name in names)
    ):
        raise _invalid(f"names: expected {len(conversations)} texts, one for each conversation")
    pooling = parse_pooling(str(body.get("pooling", "last")))
    return CaptureRequest(tuple(map(_messages, conversations)), pooling, tuple(names))


def parse_direction(raw: bytes, n_layers: int, d_model: int) -> NDArray[np.float32]:
    """Check the body of `POST /v1/directions`: a safetensors file with the tensor `directions`.

    Returns:
        float32 `[n_layers, d_model]`.

    Raises:
        RequestError: another file, another shape, or values that are not finite floating-point numbers.
    """
    try:
        vectors = safetensors.numpy.load(raw)["directions"]
    except (safetensors.SafetensorError, KeyError) as error:
        raise _invalid("the body is not a direction; expected a safetensors file with a tensor `directions`") from error
    if vectors.shape != (n_layers, d_model) or not np.issubdtype(vectors.dtype, np.floating):
        raise _invalid(
            f"the direction has shape {list(vectors.shape)} and holds {vectors.dtype}; expected "
            f"{[n_layers, d_model]}, the model's layers and width, in floating point"
        )
    if not np.isfinite(vectors).all():
        raise _invalid("the direction holds values that are not finite; expected finite numbers")
    return vectors.astype(np.float32)


def _invalid(message: str) -> RequestError:
    return RequestError(message, "invalid_value")


def _object(raw: bytes, known: frozenset[str]) -> Mapping[str, Any]:
    try:
        body = json.loads(raw)
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise RequestError(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body is a JSON {type(body).__name__}; expected an object", "invalid_json")
    if unknown := set(body) - known:
        raise RequestError(f"unknown fields {sorted(unknown)}; expected some of {sorted(known)}", "unknown_parameter")
    return body


def _messages(raw: Any) -> tuple[Message, ...]:
    if not isinstance(raw, list) or not raw:
        raise _invalid("messages: expected a list of {role, content}, not empty")
    for message in raw:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise _invalid(f"messages: {str(message)[:80]}: expected text for role and content")
    if any(_has_surrogate(text) for message in raw for text in message.values()):
        raise _invalid("messages: received a lone surrogate; expected Unicode text")
    return tuple(
        {key: message[key] for key in ("role", "content", "reasoning_content") if isinstance(message.get(key), str)}
        for message in raw
    )


def _has_surrogate(text: Any) -> bool:
    return isinstance(text, str) and any("\ud800" <= letter <= "\udfff" for letter in text)


def _thinking(raw: Any) -> Thinking | None:
    if raw not in (None, *get_args(Thinking)):
        raise _invalid(f"thinking: {raw!r}; expected one of {', '.join(get_args(Thinking))}")
    return cast("Thinking | None", raw)


def _stop(raw: Any) -> tuple[str, ...]:
    stops = [raw] if isinstance(raw, str) else raw
    if not isinstance(stops, list) or not all(isinstance(text, str) and text for text in stops):
        raise _invalid(f"stop: {raw!r}; expected a text or a list of texts, none empty")
    return tuple(stops)


def _steers(raw: Any, n_layers: int) -> tuple[Steer, ...]:
    if not isinstance(raw, list | tuple) or not all(isinstance(steer, dict) for steer in raw):
        raise _invalid("steering: expected a list of steers")
    try:
        steers = tuple(Steer.from_json(steer) for steer in raw)
    except UsageError as error:
        raise _invalid(f"steering: {error}") from error
    for steer in steers:
        _number(steer.alpha, "steering: alpha")
        if not 0 <= steer.layer < n_layers:
            raise _invalid(f"steering: layer {steer.layer}; the model has layers 0 to {n_layers - 1}")
    return steers


def _number(value: Any, name: str, least: float | None = None) -> float:
    number = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
    if not number or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise _invalid(f"{name}: {value!r}; expected a finite number{bound}")
    return float(value)


def _whole(value: Any, name: str, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise _invalid(f"{name}: {value!r}; expected a whole number{bound}")
    return value
