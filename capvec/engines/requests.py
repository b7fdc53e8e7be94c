"""Checks of the request bodies of `protocol`'s endpoints, for every engine."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.errors import SteeringFault, UsageError
from capvec.pooling import parse_pooling
from capvec.records import Config, Message, Thinking
from capvec.steering import Steer

_CHAT_FIELDS = frozenset(
    "model messages max_tokens max_completion_tokens temperature seed stop steering thinking n stream".split()
)
_CAPTURE_FIELDS = frozenset(("conversations", "pooling", "names"))
_MESSAGE_FIELDS = ("role", "content", "reasoning_content")

MAX_MESSAGE = 2000
"""Most characters of an error message, which may quote what was received."""
MAX_STOPS, MAX_STEERS = 64, 1024
"""Most entries of `stop` and of `steering`: each step looks for every one of them."""


class RequestError(Exception):
    """A request is refused.

    Args:
        message: what was received and what was expected.
        code: OpenAI's, if it has one for this error.
        status: of the HTTP response.
        headers: of the HTTP response.
    """

    def __init__(self, message: str, code: str, status: int = 400, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.code, self.status, self.headers = code, status, dict(headers or {})


@dataclass(frozen=True)
class ChatRequest:
    """A body of `POST /v1/chat/completions`."""

    model: str | None
    """The name of a published config; None from a client that gives the steers itself."""
    messages: tuple[Message, ...]
    max_tokens: int | None
    """None for as many as the context has room for."""
    seed: int | None
    """None for one that the engine draws."""
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
    if len(message) > MAX_MESSAGE:
        message = message[:MAX_MESSAGE] + " …"
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "code": code}}, status


def parse_chat(raw: bytes, n_layers: int) -> ChatRequest:
    """Check the body of a chat completion for a model of `n_layers`.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type or range.
    """
    body = _object(raw, _CHAT_FIELDS)
    if _given(body, "stream", False) is not False or _given(body, "n", 1) != 1:
        raise RequestError("n and stream: expected n = 1 without stream", "unsupported_value")
    model, steers = body.get("model"), _steers(_given(body, "steering", []), n_layers)
    if model is not None and not isinstance(model, str):
        raise _invalid(f"model: {_shown(model)}; expected the name of a model")
    if model is not None and steers:
        raise _invalid(
            f"model and steering: {_shown(model)} names steers, and others are given; expected one of the two"
        )
    wanted = _given(body, "max_completion_tokens", body.get("max_tokens"))
    return ChatRequest(
        model=model,
        messages=_messages(body.get("messages")),
        max_tokens=None if wanted is None else _whole(wanted, "max_tokens", least=1),
        seed=None if body.get("seed") is None else _whole(body["seed"], "seed"),
        temperature=_number(_given(body, "temperature", 1.0), "temperature", least=0),
        stop=_stop(_given(body, "stop", [])),
        steers=steers,
        thinking=_thinking(body.get("thinking")),
    )


def parse_configs(raw: bytes) -> tuple[Config, ...]:
    """Check the body of `POST /v1/configs`.

    Raises:
        RequestError: not JSON, an unknown field, or no list of configs.
    """
    listed = _object(raw, frozenset({"configs"})).get("configs")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise _invalid(f"configs: {_shown(listed)}; expected a list of configs")
    try:
        return tuple(map(Config.from_json, listed))
    except UsageError as error:
        raise _invalid(f"configs: {str(error)[:400]}") from error


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
    names = _given(body, "names", []) or [f"conversation {number}" for number in range(1, len(conversations) + 1)]
    if (
        not isinstance(names, list)
        or len(names) != len(conversations)
        or not all(isinstance(name, str) for name in names)
    ):
        raise _invalid(f"names: expected {len(conversations)} texts, one for each conversation")
    pooling = _given(body, "pooling", "last")
    if not isinstance(pooling, str):
        raise _invalid(f"pooling: {_shown(pooling)}; expected a text")
    pooling = parse_pooling(pooling)
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
    except (safetensors.SafetensorError, KeyError, ValueError, TypeError) as error:
        raise _invalid("the body is not a direction; expected a safetensors file with a tensor `directions`") from error
    if vectors.shape != (n_layers, d_model) or not np.issubdtype(vectors.dtype, np.floating):
        raise _invalid(
            f"the direction has shape {list(vectors.shape)} and holds {vectors.dtype}; expected "
            f"{[n_layers, d_model]}, the model's layers and width, in floating point"
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
        if not np.isfinite(np.linalg.norm(vectors, axis=1)).all():
            raise _invalid("the direction holds values or norms that are not finite; expected finite ones in float32")
    return vectors


def _invalid(message: str) -> RequestError:
    return RequestError(message, "invalid_value")


def _shown(value: Any) -> str:
    """A value in an error message, cut where it is long or deep."""
    return reprlib.repr(value)[:200]


def _object(raw: bytes, known: frozenset[str]) -> Mapping[str, Any]:
    try:
        body = json.loads(raw, parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise RequestError("the body is nested too deeply; expected a few levels", "invalid_json") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, or an integer of thousands of digits
        raise RequestError(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body is a JSON {type(body).__name__}; expected an object", "invalid_json")
    if unknown := sorted(set(body) - known):
        raise RequestError(f"unknown fields {_shown(unknown)}; expected some of {sorted(known)}", "unknown_parameter")
    return body


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; refused if a key stands in it twice, since readers differ in which of the values they take."""
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise ValueError(f"the key {_shown(key)} stands twice in an object")
        known[key] = value
    return known


def _given(body: Mapping[str, Any], name: str, default: Any) -> Any:
    """A field's value; null stands for an absent one, as in OpenAI's protocol."""
    value = body.get(name)
    return default if value is None else value


def _messages(raw: Any) -> tuple[Message, ...]:
    if not isinstance(raw, list) or not raw:
        raise _invalid("messages: expected a list of {role, content}, not empty")
    for message in raw:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise _invalid(f"messages: {_shown(message)}: expected text for role and content")
    messages = tuple(
        {key: message[key] for key in _MESSAGE_FIELDS if isinstance(message.get(key), str)} for message in raw
    )
    for message in messages:
        for text in message.values():
            _text(text, "messages")
    return messages


def _text(text: str, name: str) -> str:
    """The text itself, if it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise _invalid(f"{name}: received a lone surrogate; expected Unicode text") from None
    return text


def _thinking(raw: Any) -> Thinking | None:
    if raw is not None and raw not in get_args(Thinking):
        raise _invalid(f"thinking: {_shown(raw)}; expected one of {', '.join(get_args(Thinking))}")
    return cast("Thinking | None", raw)


def _stop(raw: Any) -> tuple[str, ...]:
    stops = [raw] if isinstance(raw, str) else raw
    if (
        not isinstance(stops, list)
        or len(stops) > MAX_STOPS
        or not all(isinstance(text, str) and text for text in stops)
    ):
        raise _invalid(f"stop: {_shown(raw)}; expected a text or a list of at most {MAX_STOPS} texts, none empty")
    return tuple(_text(text, "stop") for text in stops)


def _steers(raw: Any, n_layers: int) -> tuple[Steer, ...]:
    if not isinstance(raw, list) or len(raw) > MAX_STEERS or not all(isinstance(steer, dict) for steer in raw):
        raise _invalid(f"steering: expected a list of at most {MAX_STEERS} steers")
    try:
        steers = tuple(Steer.from_json(steer) for steer in raw)
    except UsageError as error:
        raise _invalid(f"steering: {str(error)[:400]}") from error
    for steer in steers:
        _number(steer.alpha, "steering: alpha")
        if not 0 <= steer.layer < n_layers:
            raise _invalid(f"steering: layer {steer.layer}; the model has layers 0 to {n_layers - 1}")
    return steers


def _number(value: Any, name: str, least: float | None = None) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (least is not None and number < least):
        bound = f" of at least {least}" if least is not None else ""
        raise _invalid(f"{name}: {_shown(value)}; expected a finite number{bound}")
    return number


def _whole(value: Any, name: str, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise _invalid(f"{name}: {_shown(value)}; expected a whole number{bound}")
    return value
