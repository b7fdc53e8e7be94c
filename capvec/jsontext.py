"""Finding a JSON object in a model's text, and repairing the faults that lose nothing.

Every string of an object is whole, or there is no object. An object that lacks its last bracket counts only for a
caller that can tell that nothing else is missing. An object with the same key twice is none, since one value is lost.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Possessive, and an open string runs to the end: linear time on a reply made of quotes.
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_LAST_COMMA = re.compile(r",(?=\s*\Z)")
MAX_CANDIDATES = 8
"""Most opening braces to try, which bounds the time for a reply made of braces."""


@dataclass(frozen=True)
class Found:
    """A JSON object in a text."""

    value: dict[str, Any]
    start: int
    end: int
    mended: str
    """The repair; empty if the text was valid."""
    unclosed: bool = False
    """Whether the text lacks the object's last bracket, so that it may be cut."""


def decode(text: str, start: int = 0) -> Found | None:
    """The JSON object that starts at `text[start]`, repaired if necessary, or None. Never raises."""
    for strict, mended in ((True, ""), (False, "a string held a bare line break or control character")):
        if found := _decode(text, start, strict, mended):
            return found
    # Both lines keep the places of the rest, so that `end` holds for the text.
    rest = _TRAILING_COMMA.sub(lambda match: match[1] or " ", text[start:])
    if found := _decode(rest, 0, False, "the JSON had a trailing comma"):
        return Found(found.value, start, start + found.end, found.mended)
    rest = _LAST_COMMA.sub(" ", rest.rstrip().removesuffix("```"))
    if found := _decode(rest + "}", 0, False, "the JSON lacked its last bracket"):
        return Found(found.value, start, len(text), found.mended, unclosed=True)
    return None


def find_object(text: str, wanted: Callable[[dict[str, Any]], bool]) -> Found | None:
    """The first JSON object in the text for which `wanted` holds, valid ones before repaired ones. Never raises."""
    starts = list(_braces(text))
    for mend in (False, True):
        for start in starts:
            found = decode(text, start) if mend else _decode(text, start, True, "")
            if found and wanted(found.value):
                return found
    return None


def _braces(text: str) -> Iterator[int]:
    start = text.find("{")
    for _ in range(MAX_CANDIDATES):
        if start < 0:
            return
        yield start
        start = text.find("{", start + 1)


def _decode(text: str, start: int, strict: bool, mended: str) -> Found | None:
    try:
        value, end = json.JSONDecoder(strict=strict, object_pairs_hook=_once).raw_decode(text, start)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None
    return Found(value, start, end, mended) if isinstance(value, dict) else None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        raise ValueError("a key stands twice")
    return value
