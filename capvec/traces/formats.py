"""The formats that traces are read from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capvec.traces import atif, chats, inspect_log, mini_swe_agent, nemo_gym, openhands, swe_agent
from capvec.traces.format import Format

FORMATS: tuple[Format, ...] = (
    atif.FORMAT,
    inspect_log.FORMAT,
    nemo_gym.FORMAT,
    openhands.FORMAT,
    mini_swe_agent.FORMAT,
    swe_agent.FORMAT,
    chats.FORMAT,
)
"""The formats in the order in which they are tried."""


def format_of(value: Any, fields: Mapping[str, str]) -> Format | None:
    """The format that a document's value is meant to be of, given the user's names of fields; None if of none."""
    return next((known for known in FORMATS if known.looks_like(value, fields)), None)
