"""Turns one chat, a line of a JSONL, into a trace.

A chat is an object with a list of messages, `{"role", "content"}` as OpenAI's or `{"from", "value"}` as ShareGPT's. The
reward and any other field of `fields.py` stand beside the list.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from capvec.errors import UsageError
from capvec.records import Trace
from capvec.traces.conversation import acceptable, with_calls
from capvec.traces.counts import by_protocol
from capvec.traces.document import Document
from capvec.traces.fields import TRACE_FIELDS, UNKNOWN, look_up

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "tool": "user",
    "function": "user",
    "observation": "user",
    "environment": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "agent": "assistant",
    "model": "assistant",
}
"""Role of a message → the role in a chat template. A tool's answer becomes a user message, as in `atif.py`."""


def looks_like_chat(value: Any, named: Mapping[str, str]) -> bool:
    """Whether a JSON value is meant to be a chat: it has a list of messages."""
    return isinstance(value, dict) and isinstance(look_up(value, "messages", named)[1], list)


def chat_trace(document: Document, named: Mapping[str, str]) -> Trace:
    """The trace of a chat.

    A chat without an id is named after its file and line. Unless the source counts them, the steps are all messages of
    the assistant, including worked examples, which cannot be recognised. A count of parse_fail or no_cmd that the
    source lacks comes from the parser of the protocol that it names.

    Raises:
        UsageError: a key is missing or wrong; the message names it.
    """
    if not isinstance(document.value, dict):
        raise UsageError(f"{document.name}: is {type(document.value).__name__}, expected an object with messages")

    def found(field: str) -> tuple[Any, str]:
        name, value = look_up(document.value, field, named)
        return value, name

    key, talk = look_up(document.value, "messages", named)
    if talk is None:
        raise UsageError(
            f"{document.name}: neither an ATIF trajectory (an object with schema_version and steps) nor a chat (an "
            f"object with {', '.join(TRACE_FIELDS['messages'])}); use --trace-fields messages=NAME for another name"
        )
    messages = [
        _message(document, message, f"{key}[{index}]") for index, message in enumerate(document.typed(talk, key, list))
    ]
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    steps, task, model, name = (found(field)[0] for field in ("steps", "task", "model", "id"))
    counts = by_protocol(document.optional(*found("protocol"), str), replies).known_first(
        document.count(*found("parse_fail")), document.count(*found("no_cmd"))
    )
    return Trace(
        id=str(name) if isinstance(name, str | int) else document.name.removeprefix(f"{document.path.parent}/"),
        task=_label(document, task, found("task")[1]),
        model=_label(document, model, found("model")[1]),
        messages=acceptable(messages),
        reward=document.reward(*found("reward")),
        steps=len(replies) if steps is None else document.typed(steps, found("steps")[1], int),
        parse_fail=counts.parse_fail,
        no_cmd=counts.no_cmd,
        uncounted=counts.why,
    )


def _label(document: Document, value: Any, key: str) -> str:
    """The name of a task or a model, which may be a number."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return document.typed(value, key, str)


def _message(document: Document, message: Any, key: str) -> dict[str, str]:
    message = document.typed(message, key, dict)
    form = ("from", "value") if "from" in message and "role" not in message else ("role", "content")
    role, content = (message.get(name) for name in form)
    if not isinstance(role, str) or role not in _ROLES:
        raise document.broken(f"{key}.{form[0]}", role, f"one of {', '.join(_ROLES)}")
    # OpenAI's content is null if the reply consists of calls only.
    calls = document.optional(message.get("tool_calls"), f"{key}.tool_calls", list) or []
    text = "" if content is None and calls else document.text(content, f"{key}.{form[1]}")
    return {"role": _ROLES[role], "content": with_calls(text, [_call(document, call, key) for call in calls])}


def _call(document: Document, call: Any, key: str) -> tuple[Any, Any]:
    """Name and arguments of one of OpenAI's tool calls. The arguments are parsed if they are JSON in a string."""
    function = document.typed(
        document.typed(call, f"{key}.tool_calls[]", dict).get("function"), f"{key}.tool_calls[].function", dict
    )
    arguments = function.get("arguments", {})
    try:
        return function.get("name"), json.loads(arguments) if isinstance(arguments, str) else arguments
    except ValueError:  # the model wrote no JSON
        return function.get("name"), arguments
