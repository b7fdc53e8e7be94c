"""The messages of a chat as OpenAI's clients send them, and tools."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from capvec.engines.checks import encodable, invalid, shown

ChatMessage = Mapping[str, Any]
"""Role and content, which is text; perhaps `reasoning_content`, `tool_calls` and `tool_call_id`."""
_ROLES = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant", "tool": "tool"}
"""A role → the one that chat templates know; OpenAI renamed one."""


def chat_messages(raw: Any) -> tuple[ChatMessage, ...]:
    """Check the messages of a chat: contents become text, and arguments of calls become objects.

    Raises:
        RequestError: there is none, or one that cannot be given to a language model.
    """
    if not isinstance(raw, list) or not raw:
        raise invalid("messages: expected a list of {role, content}, not empty")
    return tuple(map(_message, raw))


def _message(raw: Any) -> ChatMessage:
    if not isinstance(raw, dict) or not isinstance(raw.get("role"), str):
        raise invalid(f"messages: {shown(raw)}: expected text for role and content")
    if (role := _ROLES.get(encodable(raw["role"], "messages"))) is None:
        raise invalid(f"messages: the role {shown(raw['role'])}; expected one of {', '.join(_ROLES)}")
    calls = raw.get("tool_calls") or []
    message: dict[str, Any] = {"role": role, "content": _content(raw, calls)}
    thought = raw.get("reasoning_content")
    if isinstance(thought, str):
        message["reasoning_content"] = encodable(thought, "messages")
    if calls:
        if role != "assistant" or not isinstance(calls, list):
            raise invalid(f"messages: {shown(raw)}: expected tool_calls as a list, of the assistant")
        message["tool_calls"] = list(map(_call, calls))
    if isinstance(raw.get("tool_call_id"), str):
        message["tool_call_id"] = encodable(raw["tool_call_id"], "messages")
    return message


def _content(message: Mapping[str, Any], calls: Any) -> str:
    content = message.get("content")
    if content is None and (calls or message.get("role") == "assistant"):
        return ""
    if isinstance(content, str):
        return encodable(content, "messages")
    if not isinstance(content, list):
        raise invalid(f"messages: {shown(message)}: expected text for role and content")
    return "\n".join(map(_part, content))


def _part(part: Any) -> str:
    if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
        raise invalid(f"messages: the part {shown(part)}: expected text for role and content, or parts of type text")
    return encodable(part["text"], "messages")


def _call(raw: Any) -> dict[str, Any]:
    function = raw.get("function") if isinstance(raw, dict) else None
    name = function.get("name") if isinstance(function, dict) else None
    arguments = function.get("arguments") if isinstance(function, dict) else None
    if not isinstance(name, str) or not isinstance(arguments, str):
        raise invalid(f"messages: the call {shown(raw)}: expected a function with a name and arguments, which are text")
    encodable(name + arguments, "messages")
    try:
        value = json.loads(arguments)
    except (ValueError, RecursionError):
        value = None
    said = {"name": name, "arguments": value if isinstance(value, dict) else arguments}
    known = {"id": raw["id"]} if isinstance(raw.get("id"), str) else {}
    return {**known, "type": "function", "function": said}
