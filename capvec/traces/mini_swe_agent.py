"""Turns a trajectory of mini-swe-agent 1.x or 2.x (`.traj.json`) into a trace.

Version 2 ends the messages with one of the role `exit`, which holds the patch or the reason of the end. The model did
not see it, so it is left out. A trajectory has no verdict; `swe_bench.py` reads those of SWE-bench.

It demands one action or more of every reply. Version 2 keeps the complaint about any other reply, marked `FormatError`,
in the place of the reply: each is a `parse_fail`, and no reply is a `no_cmd`. Version 1 marks nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.document import Document, first_name
from capvec.traces.fields import UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import read_messages

_UNCOUNTED = "trajectories of mini-swe-agent record these counts from version 2 on, where all replies are in them"


def _looks_like(value: Any, _named: Mapping[str, str]) -> bool:
    if not isinstance(value, dict) or not isinstance(value.get("messages"), list):
        return False
    info = value.get("info")
    versioned = isinstance(info, dict) and "mini_version" in info
    return versioned or str(value.get("trajectory_format", "")).startswith("mini-swe-agent")


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    root = document.value
    info = document.optional(root.get("info"), "info", dict) or {}
    talk = [entry for entry in root["messages"] if not (isinstance(entry, dict) and entry.get("role") == "exit")]
    messages = read_messages(document, talk, "messages")
    replies = sum(message["role"] == "assistant" for message in messages)
    refused = _refused(talk, info, replies)
    beside = {**info, **root}
    key, reward = look_up(beside, "reward", named)
    task = first_name([look_up(beside, "task", named)[1]], document.stem)
    yield Trace(
        id=first_name([look_up(beside, "id", named)[1]], document.stem),
        task=task,
        model=first_name([_model(info), look_up(beside, "model", named)[1]], UNKNOWN),
        messages=acceptable(messages),
        reward=document.reward(reward, key),
        steps=replies + (refused or 0),
        parse_fail=refused,
        no_cmd=None if refused is None else 0,
        uncounted=_UNCOUNTED if refused is None else "",
    )


def _refused(talk: Sequence[Any], info: Mapping[str, Any], replies: int) -> int | None:
    """Replies in which no action was found; None where the calls of the model do not add up with the replies kept."""
    extras = [_object(entry.get("extra")) for entry in talk if isinstance(entry, dict)]
    acted = sum("actions" in extra for extra in extras)
    refused = sum(extra.get("interrupt_type") == "FormatError" for extra in extras)
    calls = _object(info.get("model_stats")).get("api_calls")
    return refused if acted == replies and calls == replies + refused else None


def _object(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _model(info: Mapping[str, Any]) -> Any:
    value: Any = info
    for key in ("config", "model", "model_name"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


FORMAT = Format("mini-swe-agent", _looks_like, _read)
