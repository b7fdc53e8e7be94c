"""The receipts that `capvec serve --receipts` keeps: a line for each reply that it gave under the name of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.reading import GIB, open_regular, shown
from capvec.serial import Record
from capvec.text import one_line

_LARGEST = 4 * GIB
"""Bytes that are read."""


@dataclass(frozen=True)
class Served(Record):
    """The replies of one config."""

    held: int = 0
    """Those whose receipts show the steer of the config's name."""
    refused: int = 0
    """Those that the client did not get, since they do not."""


def read_served(path: Path) -> Mapping[str, Served]:
    """Config → its replies.

    Raises:
        UsageError: the file cannot be read, or a line is none of `capvec serve`; the message names it.
    """
    found: dict[str, Served] = {}
    with open_regular(path, _LARGEST) as file:
        for number, line in enumerate(file, start=1):
            try:
                value = parse_json(line)
                name, held = value["model"], value["held"]
                if not isinstance(name, str) or not isinstance(held, bool):
                    raise ValueError("`model` is no text, or `held` neither true nor false")
            except (ValueError, LookupError, TypeError) as error:
                raise UsageError(
                    f"--receipts {shown(path)}, line {number}: {one_line(str(error))}; expected a line that "
                    "`capvec serve --receipts` wrote"
                ) from error
            known = found.get(name, Served())
            found[name] = Served(known.held + held, known.refused + (not held))
    return found
