"""What a format of traces is."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from capvec.records import Trace
from capvec.traces.document import Document


@dataclass(frozen=True)
class Format:
    """A format that traces are read from. Each has a module, and stands in the list of `formats.py`."""

    name: str
    looks_like: Callable[[Any, Mapping[str, str]], bool]
    """Whether a document's value is meant to be of this format, given the user's names of fields."""
    read: Callable[[Document, Mapping[str, str]], Iterable[Trace]]
    """The traces of such a document; see `read_traces` for what it raises."""
