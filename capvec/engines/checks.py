"""Checks of the values in a request's body. Each says what was received and what was expected."""

from __future__ import annotations

import math
import reprlib
from collections.abc import Mapping
from typing import Any

from capvec.parsing import TooHeavy, parse_json


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


def invalid(message: str) -> RequestError:
    return RequestError(message, "invalid_value")


def shown(value: Any) -> str:
    """A value in an error message, cut where it is long or deep."""
    return reprlib.repr(value)[:200]


def json_object(raw: bytes, known: frozenset[str]) -> Mapping[str, Any]:
    try:
        body = parse_json(raw, whole=True, finite=True)
    except TooHeavy as error:
        raise RequestError(f"the body holds {error}; send less at once", "request_too_large", 413) from error
    except ValueError as error:
        raise RequestError(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body is a JSON {type(body).__name__}; expected an object", "invalid_json")
    body = {name: value for name, value in body.items() if value is not None}  # null stands for an absent field
    if unknown := sorted(set(body) - known):
        raise RequestError(f"unknown fields {shown(unknown)}; expected some of {sorted(known)}", "unknown_parameter")
    return body


def given(body: Mapping[str, Any], name: str, default: Any) -> Any:
    """A field's value; null stands for an absent one, as in OpenAI's protocol."""
    value = body.get(name)
    return default if value is None else value


def encodable(text: str, name: str) -> str:
    """The text itself, if it can be encoded."""
    try:
        text.encode()
    except UnicodeEncodeError:
        raise invalid(f"{name}: received a lone surrogate; expected Unicode text") from None
    return text


def number(value: Any, name: str, least: float = -math.inf, most: float = math.inf) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or not least <= number <= most:
        expected = "a finite number" if math.isinf(most) else f"a number from {least:g} to {most:g}"
        raise invalid(f"{name}: {shown(value)}; expected {expected}")
    return number


def whole(value: Any, name: str, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise invalid(f"{name}: {shown(value)}; expected a whole number{bound}")
    return value
