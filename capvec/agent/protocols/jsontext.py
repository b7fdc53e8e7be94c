"""Finding a JSON object in a model's text, and repairing the usual faults."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Possessive, and an open string runs to the end: linear time on a reply made of quotes.
_STRING = r'"(?:[^"\\]|\\.)*+(?:"|\\?\Z)'
_TRAILING_COMMA = re.compile(rf"({_STRING})|,(?=\s*[}}\]])", re.DOTALL)
_TOKEN = re.compile(rf"{_STRING}|[{{}}\[\]]", re.DOTALL)
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


def decode(text: str, start: int = 0) -> Found | None:
    """The JSON object that starts at `text[start]`, repaired if necessary, or None. Never raises."""
    for strict, mended in ((True, ""), (False, "a string held a bare line break or control character")):
        if found := _decode(text, start, strict, mended):
            return found
    rest = text[start:].rstrip().removesuffix("```")
    cut = _TRAILING_COMMA.sub(lambda match: match[1] or "", rest)
    closed = cut + _missing_closers(cut)
    if found := _decode(closed, 0, False, "the JSON had a trailing comma or lacked its end"):
        # The repair moves the end; what matters is whether anything follows the object.
        return Found(found.value, start, len(text) - len(closed[found.end :]), found.mended)
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
        value, end = json.JSONDecoder(strict=strict).raw_decode(text, start)
    except (ValueError, RecursionError):  # RecursionError: thousands of nested brackets
        return None
    return Found(value, start, end, mended) if isinstance(value, dict) else None


def _missing_closers(text: str) -> str:
    """The brackets that would close what the text leaves open; empty if a bracket closes the wrong thing."""
    open_brackets: list[str] = []
    for match in _TOKEN.finditer(text):
        token = match[0]
        if token in "{[":
            open_brackets.append("}" if token == "{" else "]")
        elif token in "}]":
            if not open_brackets:
                break
            if open_brackets.pop() != token:
                return ""
            if not open_brackets:
                return ""
    return "".join(reversed(open_brackets))
