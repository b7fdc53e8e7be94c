"""A JSON value from a file, with errors that name the file and the key."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from capvec.errors import UsageError
from capvec.traces.fields import plain_value

_T = TypeVar("_T")
_WORDS: dict[type, str] = {str: "text", dict: "an object", list: "a list", int: "a whole number"}


class NotATrace(Exception):
    """A value that holds no conversation of its own, such as a report; the message says why. It is passed over."""


@dataclass(frozen=True)
class Archive:
    """The value of a document that is a zip file."""

    members: frozenset[str]
    """The names of the files in it."""


@dataclass(frozen=True)
class Document:
    """A JSON value, or an `Archive`, that should hold a trace.

    Every method that checks a value raises `UsageError` with the file and the key if the check fails.
    """

    name: str
    """The file, and the line or entry where it holds several values, for error messages."""
    value: Any
    path: Path
    alone: bool = True
    """Whether it is the whole file, and not one line or entry of it."""

    @property
    def stem(self) -> str:
        """The file's name without its suffixes, and the line or entry: the name of a trace that has none."""
        return self.name.removeprefix(f"{self.path.parent}/").replace(self.path.name, self.path.name.split(".")[0], 1)

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

    def objects(self, value: Any, key: str) -> list[dict[str, Any]]:
        """A list of objects; None is an empty one."""
        entries = self.optional(value, key, list) or []
        return [self.typed(entry, f"{key}[{index}]", dict) for index, entry in enumerate(entries)]

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
        """A finite number, or None; true counts as 1 and false as 0, and each of them may be written as text."""
        plain = plain_value(value)
        return float(plain) if isinstance(plain, bool) else self.number(plain, key)


def first_name(values: Iterable[Any], default: str) -> str:
    """The first of the values that names something: text that is not empty, or a whole number."""
    named = (str(value) for value in values if isinstance(value, str | int) and not isinstance(value, bool))
    return next((value for value in named if value), default)
