"""Checks of the values in a request's body. Each says what was received and what was expected."""

from __future__ import annotations

import json
import math
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any


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
        body = json.loads(raw, parse_constant=_no_constant, object_pairs_hook=_unique)
    except RecursionError:
        raise RequestError("the body is nested too deeply; expected a few levels", "invalid_json") from None
    except ValueError as error:  # JSONDecodeError, UnicodeDecodeError, or an integer of thousands of digits
        raise RequestError(f"the body is not JSON: {error}", "invalid_json") from error
    if not isinstance(body, dict):
        raise RequestError(f"the body is a JSON {type(body).__name__}; expected an object", "invalid_json")
    body = {name: value for name, value in body.items() if value is not None}  # null stands for an absent field
    if unknown := sorted(set(body) - known):
        raise RequestError(f"unknown fields {shown(unknown)}; expected some of {sorted(known)}", "unknown_parameter")
    return body


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON number")


def _unique(pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """An object; refused if a key stands in it twice, since readers differ in which of the values they take."""
    known: dict[str, Any] = {}
    for key, value in pairs:
        if key in known:
            raise ValueError(f"the key {shown(key)} stands twice in an object")
        known[key] = value
    return known


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


def number(value: Any, name: str, least: float | None = None) -> float:
    try:
        number = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    except OverflowError:
        number = math.inf
    if not math.isfinite(number) or (least is not None and number < least):
        bound = f" of at least {least}" if least is not None else ""
        raise invalid(f"{name}: {shown(value)}; expected a finite number{bound}")
    return number


def whole(value: Any, name: str, least: int | None = None) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or (least is not None and value < least):
        bound = f" of at least {least}" if least is not None else ""
        raise invalid(f"{name}: {shown(value)}; expected a whole number{bound}")
    return value
