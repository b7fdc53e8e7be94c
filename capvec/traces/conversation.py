"""Conversations in the form that every chat template accepts."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any


def acceptable(messages: Iterable[dict[str, str]]) -> tuple[dict[str, str], ...]:
    """Make late system messages the user's and join consecutive messages of one role, since templates refuse both."""
    joined: list[dict[str, str]] = []
    for index, message in enumerate(messages):
        role = "user" if message["role"] == "system" and index > 0 else message["role"]
        if joined and joined[-1]["role"] == role:
            joined[-1] = {"role": role, "content": f"{joined[-1]['content']}\n\n{message['content']}"}
        else:
            joined.append({"role": role, "content": message["content"]})
    return tuple(joined)


def with_calls(text: str, calls: Iterable[tuple[Any, Any]]) -> str:
    """A reply followed by its tool calls, each (name, arguments), as Qwen and Hermes write them."""
    said = [
        f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"
        for name, arguments in calls
    ]
    return "\n".join(part for part in (text, *said) if part)
