"""Checks of the bodies of captures, directions and configs, for every engine; `chat_requests` has the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from numpy.typing import NDArray

from capvec.engines.checks import RequestError, encodable, given, invalid, json_object, shown
from capvec.errors import SteeringFault, UsageError
from capvec.pooling import parse_pooling
from capvec.records import Config, Message

_CAPTURE_FIELDS = frozenset(("conversations", "pooling", "names"))
_MESSAGE_FIELDS = ("role", "content", "reasoning_content")

MAX_MESSAGE = 2000
"""Most characters of an error message, which may quote what was received."""


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


def parse_configs(raw: bytes) -> tuple[Config, ...]:
    """Check the body of `POST /v1/configs`.

    Raises:
        RequestError: not JSON, an unknown field, or no list of configs.
    """
    listed = json_object(raw, frozenset({"configs"})).get("configs")
    if not isinstance(listed, list) or not all(isinstance(one, dict) for one in listed):
        raise invalid(f"configs: {shown(listed)}; expected a list of configs")
    try:
        return tuple(map(Config.from_json, listed))
    except UsageError as error:
        raise invalid(f"configs: {str(error)[:400]}") from error


def parse_capture(raw: bytes) -> CaptureRequest:
    """Check the body of a capture.

    Raises:
        RequestError: not JSON, an unknown field, or a value of the wrong type.
        UsageError: an unknown pooling.
    """
    body = json_object(raw, _CAPTURE_FIELDS)
    conversations = body.get("conversations")
    if not isinstance(conversations, list) or not conversations:
        raise invalid("conversations: expected a list of lists of messages, not empty")
    names = given(body, "names", []) or [f"conversation {number}" for number in range(1, len(conversations) + 1)]
    if (
        not isinstance(names, list)
        or len(names) != len(conversations)
        or not all(isinstance(name, str) for name in names)
    ):
        raise invalid(f"names: expected {len(conversations)} texts, one for each conversation")
    pooling = given(body, "pooling", "last")
    if not isinstance(pooling, str):
        raise invalid(f"pooling: {shown(pooling)}; expected a text")
    pooling = parse_pooling(pooling)
    return CaptureRequest(tuple(map(messages_of, conversations)), pooling, tuple(names))


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
        raise invalid("the body is not a direction; expected a safetensors file with a tensor `directions`") from error
    if vectors.shape != (n_layers, d_model) or not np.issubdtype(vectors.dtype, np.floating):
        raise invalid(
            f"the direction has shape {list(vectors.shape)} and holds {vectors.dtype}; expected "
            f"{[n_layers, d_model]}, the model's layers and width, in floating point"
        )
    with np.errstate(over="ignore"):
        vectors = vectors.astype(np.float32)
        if not np.isfinite(np.linalg.norm(vectors, axis=1)).all():
            raise invalid("the direction holds values or norms that are not finite; expected finite ones in float32")
    return vectors


def messages_of(raw: Any) -> tuple[Message, ...]:
    """Check a list of messages that hold text alone.

    Raises:
        RequestError: it is none.
    """
    if not isinstance(raw, list) or not raw:
        raise invalid("messages: expected a list of {role, content}, not empty")
    for message in raw:
        if not isinstance(message, dict) or not all(isinstance(message.get(key), str) for key in ("role", "content")):
            raise invalid(f"messages: {shown(message)}: expected text for role and content")
    messages = tuple(
        {key: message[key] for key in _MESSAGE_FIELDS if isinstance(message.get(key), str)} for message in raw
    )
    for message in messages:
        for text in message.values():
            encodable(text, "messages")
    return messages
