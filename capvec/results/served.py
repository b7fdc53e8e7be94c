"""The receipts that `capvec serve --receipts` keeps: a line for each reply that it gave under the name of a config.

What a line says of itself counts for nothing. Its measurements are checked again as those of capvec's own trials are,
and its config against its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from capvec.errors import SteeringFault, UsageError
from capvec.parsing import parse_json
from capvec.plan.configs import check_named
from capvec.reading import GIB, open_regular, shown
from capvec.receipts import check_finite, check_receipts
from capvec.records import Config, Reply
from capvec.serial import Record
from capvec.steering import BlockLayout
from capvec.text import one_line

_LARGEST = 4 * GIB
"""Bytes that are read."""
_KEYS: Mapping[str, type] = {"id": str, "choice": int, "model": str, "held": bool}
"""What every line has. One whose receipts hold also has these, from which that is checked again."""
_MEASURED = ("config", "layout", "receipts", "isolation", "cached_under", "finish_reason", "usage")
_AS_WRITTEN = "expected the file as `capvec serve --receipts` wrote it"


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
        UsageError: the file cannot be read; a line is none of `capvec serve`, or says that its receipts hold where
            they do not; or two lines of one reply, or of one name's config, differ. The message names the line.
    """
    found: dict[str, Served] = {}
    replies: dict[tuple[str, int], tuple[str, bool]] = {}
    asked: dict[str, Any] = {}
    with open_regular(path, _LARGEST) as file:
        for number, line in enumerate(file, start=1):
            where = f"--receipts {shown(path)}, line {number}"
            value = _line(where, line)
            name, held, reply = value["model"], value["held"], (value["id"], value["choice"])
            if held:
                steered = _held(where, value)
                if asked.setdefault(name, steered) != steered:
                    raise UsageError(
                        f"{where}: an earlier line of {shown(name)} has another config or model; expected one for "
                        "each name: give the file of one server, and let each start write a file of its own"
                    )
            again = reply in replies
            if replies.setdefault(reply, (name, held)) != (name, held):
                raise UsageError(
                    f"{where}: an earlier line has the same `id` and `choice` and says otherwise; {_AS_WRITTEN}"
                )
            one = found.get(name, Served())
            found[name] = (
                replace(one, repeated=one.repeated + 1)
                if again
                else replace(one, held=one.held + held, refused=one.refused + (not held))
            )
    return found


def _line(where: str, line: bytes) -> dict[str, Any]:
    """The object of a line, with what every line has.

    Raises:
        UsageError: it is none.
    """
    try:
        value = parse_json(line)
        if not isinstance(value, dict):
            raise ValueError("no object")
        if missing := [key for key in (*_KEYS, *(_MEASURED if value.get("held") is True else ())) if key not in value]:
            raise ValueError(f"without {', '.join(f'`{key}`' for key in missing)}")
        for key, kind in _KEYS.items():
            if type(value[key]) is not kind:
                raise ValueError(f"`{key}` is {value[key]!r:.60}")
    except ValueError as error:
        raise UsageError(
            f"{where}: {one_line(str(error))}; expected a line that `capvec serve --receipts` wrote"
        ) from error
    return value


def _held(where: str, value: Mapping[str, Any]) -> tuple[Config, BlockLayout]:
    """The config of a line whose receipts show it, and the model's blocks.

    Raises:
        UsageError: they do not show it, or the config is not that of the line's name.
    """
    try:
        config, layout = Config.from_json(value["config"]), BlockLayout.from_json(value["layout"])
        told = {name: value[name] for name in ("finish_reason", "receipts", "isolation", "cached_under")}
        usage = value["usage"] if isinstance(value["usage"], dict) else {}
        reply = Reply.from_json({"text": "", "model_s": 0.0, **told, **usage})
        if config.name != value["model"]:
            raise UsageError(f"`model` is {value['model']}, and the name of its config {config.name}")
        check_named(config)
        check_finite(reply.receipts, reply.isolation)
        check_receipts(reply, config, layout)
    except (UsageError, SteeringFault) as error:
        raise UsageError(f"{where}: says that its receipts hold, and they do not: {error}; {_AS_WRITTEN}") from error
    return config, layout
