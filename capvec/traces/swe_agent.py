"""Turns a trajectory of SWE-agent (`.traj`) into a trace.

`history` is the conversation, and `trajectory` lists the same steps without the prompts. A file of several attempts
holds the chosen one at its top, or none yet; then the last attempt is read. A trajectory has no verdict;
`swe_bench.py` reads those of SWE-bench.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from capvec.parsing import parse_json
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.document import Document, NotATrace, first_name
from capvec.traces.fields import UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import looks_like_messages, read_messages

_STEP = {"action", "observation", "response"}


def _looks_like(value: Any, _named: Mapping[str, str]) -> bool:
    if not isinstance(value, dict):
        return False
    attempts = value.get("attempts")
    return any(_is_run(run) for run in (value, *(attempts if isinstance(attempts, list) else ())))


def _is_run(value: Any) -> bool:
    if not isinstance(value, dict):
        return False
    steps = value.get("trajectory")
    stepped = isinstance(steps, list) and bool(steps) and isinstance(steps[0], dict) and steps[0].keys() >= _STEP
    # Beside messages, a history is that of a chat.
    return stepped or (looks_like_messages(value.get("history")) and not looks_like_messages(value.get("messages")))


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    root = document.value
    if root.get("history") is None and root.get("trajectory") is None:
        root = {**document.objects(root.get("attempts"), "attempts")[-1], **root}
    info = document.optional(root.get("info"), "info", dict) or {}
    entries, key = _entries(document, root)
    messages = read_messages(document, entries, key)
    demonstrated = [entry.get("role") == "assistant" for entry in entries if entry.get("is_demo")]
    beside = {**info, **{name: value for name, value in root.items() if name != "environment"}}
    reward_key, reward = look_up(beside, "reward", named)
    yield Trace(
        id=first_name([look_up(beside, "id", named)[1]], document.stem),
        task=first_name([look_up(beside, "task", named)[1]], document.stem),
        model=first_name([_model(root.get("replay_config")), look_up(beside, "model", named)[1]], UNKNOWN),
        messages=acceptable(messages),
        reward=document.reward(reward, reward_key),
        steps=sum(message["role"] == "assistant" for message in messages) - sum(demonstrated),
        parse_fail=None,
        no_cmd=None,
        uncounted="trajectories of SWE-agent do not record these counts",
    )


def _entries(document: Document, root: Mapping[str, Any]) -> tuple[list[dict[str, Any]], str]:
    """The messages, and their key. A file without a history has them in the query of the last step."""
    if history := document.objects(root.get("history"), "history"):
        return history, "history"
    steps = document.objects(root.get("trajectory"), "trajectory")
    if not steps:
        raise NotATrace("a trajectory of SWE-agent without steps")
    query = document.objects(steps[-1].get("query") or steps[-1].get("messages"), "trajectory[-1].query")
    if not query:
        raise NotATrace("a trajectory of SWE-agent without the prompts that the model was given")
    last = [
        {"role": "assistant", "content": steps[-1]["response"]},
        {"role": "user", "content": steps[-1]["observation"]},
    ]
    return [*query, *last], "trajectory[-1].query"


def _model(replay: Any) -> Any:
    """The name of the model in the configuration of the run, which may be JSON in a string."""
    try:
        value = parse_json(replay) if isinstance(replay, str) else replay
    except ValueError:
        return None
    for key in ("agent", "model", "name"):
        value = value.get(key) if isinstance(value, dict) else None
    return value


FORMAT = Format("SWE-agent", _looks_like, _read)
