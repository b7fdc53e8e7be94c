"""The receipts that `capvec serve --receipts` keeps: a line for each reply that it gave under the name of a config."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
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
    repeated: int = 0
    """Further lines of a reply that is counted already."""


def read_served(path: Path) -> Mapping[str, Served]:
    """Config → its replies, each of which is counted once, however often its line is there.

    Raises:
        UsageError: the file cannot be read, a line is none of `capvec serve`, or two lines of one reply differ; the
            message names the line.
    """
    found: dict[str, Served] = {}
    known: dict[tuple[str, int], tuple[str, bool]] = {}
    with open_regular(path, _LARGEST) as file:
        for number, line in enumerate(file, start=1):
            where = f"--receipts {shown(path)}, line {number}"
            reply, name, held = _receipt(where, line)
            again = reply in known
            if known.setdefault(reply, (name, held)) != (name, held):
                raise UsageError(
                    f"{where}: an earlier line has the same `id` and `choice` and says otherwise; expected the file as "
                    "`capvec serve --receipts` wrote it"
                )
            one = found.get(name, Served())
            found[name] = (
                replace(one, repeated=one.repeated + 1)
                if again
                else replace(one, held=one.held + held, refused=one.refused + (not held))
            )
    return found


def _receipt(where: str, line: bytes) -> tuple[tuple[str, int], str, bool]:
    """A line: the reply's id and choice, the config, and whether the receipts hold."""
    try:
        value = parse_json(line)
        reply, choice, name, held = (value[key] for key in ("id", "choice", "model", "held"))
        if not isinstance(name, str) or not isinstance(held, bool):
            raise ValueError("`model` is no text, or `held` neither true nor false")
        if not isinstance(reply, str) or type(choice) is not int:
            raise ValueError("`id` is no text, or `choice` no whole number")
    except (ValueError, LookupError, TypeError) as error:
        raise UsageError(
            f"{where}: {one_line(str(error))}; expected a line that `capvec serve --receipts` wrote"
        ) from error
    return (reply, choice), name, held
