"""A JSON value from a file, with errors that name the file and the key."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from capvec.errors import UsageError

_T = TypeVar("_T")
_WORDS: dict[type, str] = {str: "text", dict: "an object", list: "a list", int: "a whole number"}


@dataclass(frozen=True)
class Document:
    """A JSON value that should hold a trace.

    Every method that checks a value raises `UsageError` with the file and the key if the check fails.
    """

    name: str
    """The file, and the line of a JSONL, for error messages."""
    value: Any
    path: Path

    def broken(self, key: str, got: Any, expected: str) -> UsageError:
        """The error for a key whose value is not as expected."""
        shown = repr(got) if len(repr(got)) <= 60 else repr(got)[:57] + "…"
        return UsageError(f"{self.name}: key `{key}` is {shown}, expected {expected}")

    def typed(self, value: Any, key: str, kind: type[_T]) -> _T:
        """`value`, checked to be a `kind`; the message names `key`."""
        if not isinstance(value, kind) or isinstance(value, bool):
            raise self.broken(key, value, _WORDS[kind])
        return value

    def optional(self, value: Any, key: str, kind: type[_T]) -> _T | None:
        """`value`, checked to be a `kind` or None."""
        return None if value is None else self.typed(value, key, kind)

    def count(self, value: Any, key: str) -> int | None:
        """A whole number of at least 0, or None."""
        if self.optional(value, key, int) is not None and value < 0:
            raise self.broken(key, value, "a whole number of at least 0")
        return None if value is None else int(value)

    def number(self, value: Any, key: str) -> float | None:
        """A finite number, or None."""
        if value is None:
            return None
        try:
            finite = not isinstance(value, bool) and isinstance(value, int | float) and math.isfinite(value)
        except OverflowError:  # a whole number beyond any float
            finite = False
        if not finite:
            raise self.broken(key, value, "a finite number or null")
        return float(value)

    def reward(self, value: Any, key: str) -> float | None:
        """A finite number, or None; true counts as 1 and false as 0."""
        return float(value) if isinstance(value, bool) else self.number(value, key)

    def text(self, content: Any, key: str) -> str:
        """The content of a message: text, or a list of content parts, of which other than text become `[type]`."""
        if isinstance(content, str):
            return content
        parts = []
        for part in self.typed(content, key, list):
            kind = self.typed(part, f"{key}[]", dict).get("type")
            parts.append(str(part.get("text") or "") if kind == "text" else f"[{kind}]")
        return "\n".join(parts)
