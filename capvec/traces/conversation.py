"""Conversations in the form that every chat template accepts."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any

from capvec.agent.protocols import PROTOCOLS
from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.records import Trace
from capvec.thoughts import KNOWN_TAGS, split_thought
from capvec.traces.document import NotATrace

_ASKED_FOR = {"<thinking>", "<thought>", "<reasoning>"}
"""Tags for which prompts ask, so that what stands in them may be a part of the reply."""
_THOUGHT_TAGS = tuple(tags for tags in KNOWN_TAGS if tags.open not in _ASKED_FOR)

_FENCE = re.compile(r"^[ \t]*(`{3,}|~{3,})(.*)$", re.MULTILINE)
_THOUGHT_BEFORE_CALL = re.compile(
    r"\s*+(?:<\|channel\|>analysis<\|message\|>(?:(?!<\|end\|>).)*+<\|end\|>(?:<\|start\|>assistant)?+)++"
    r"(?=<\|channel\|>(?!(?:analysis|final)<\|message\|>))",
    re.DOTALL,
)
"""A thought of gpt-oss before a message to a tool, which may end the reply."""


def acceptable(messages: Iterable[dict[str, str]]) -> tuple[dict[str, str], ...]:
    """Make late system messages the user's and join consecutive messages of one role, since templates refuse both."""
    joined: list[dict[str, str]] = []
    for index, message in enumerate(messages):
        role = "user" if message["role"] == "system" and index > 0 else message["role"]
        if joined and joined[-1]["role"] == role:
            said = "\n\n".join(text for text in (joined[-1]["content"], message["content"]) if text)
            joined[-1] = {"role": role, "content": said}
        else:
            joined.append({"role": role, "content": message["content"]})
    return tuple(joined)


def without_thought(reply: str) -> str:
    """A reply without the thoughts at its start, in whichever model's tags, since templates leave them out as well."""
    if called := _THOUGHT_BEFORE_CALL.match(reply):
        return reply[called.end() :]
    for tags in _THOUGHT_TAGS:
        said = split_thought(reply, tags, in_command=_in_command)
        if said.answer != reply:
            return said.answer.lstrip()
    return reply


def _in_command(text: str) -> bool:
    """Whether a text ends inside a fence, or a command of any protocol."""
    fence = ""
    for mark, rest in _FENCE.findall(text):
        if not fence:
            fence = mark
        elif mark.startswith(fence) and not rest.strip():
            fence = ""
    return bool(fence) or any(protocol.in_command(text) for protocol in PROTOCOLS.values())


def with_calls(text: str, calls: Iterable[tuple[Any, Any]]) -> str:
    """A reply followed by its tool calls, each (name, arguments), as Qwen and Hermes write them."""
    said = [
        f"<tool_call>{json.dumps({'name': name, 'arguments': arguments}, ensure_ascii=False)}</tool_call>"
        for name, arguments in calls
    ]
    return "\n".join(part for part in (text, *said) if part)


def arguments_of(written: Any) -> Any:
    """The arguments of a call. Models write them as JSON in a string, which is parsed if the value says all it does."""
    if not isinstance(written, str):
        return written
    try:
        value = parse_json(written)
        json.loads(written, object_pairs_hook=_check_keys, parse_float=_check_float)
    except ValueError:
        return written
    return value


def _check_keys(pairs: list[tuple[str, Any]]) -> None:
    if len(dict(pairs)) < len(pairs):
        raise ValueError("a key stands twice")


def _check_float(digits: str) -> None:
    if Decimal(digits) != Decimal(repr(float(digits))):
        raise ValueError("no float is the number")


def check_conversation(trace: Trace, source: str) -> None:
    """Check that a model can be given the conversation.

    Raises:
        NotATrace: no message is the assistant's.
        UsageError: there is no message, the assistant speaks first, or a text has no UTF-8; the message names `source`
            and the trace.
    """
    named = f"{source}: trace {trace.id!a}"
    for index, text in enumerate([trace.id, trace.task, trace.model, *_contents(trace.messages)]):
        if (found := _lone_surrogate(text)) is not None:
            where = "its id, task or model" if index < 3 else f"message {index - 2} of its conversation"
            raise UsageError(
                f"{named}: {where} holds the lone surrogate U+{found:04X}, which has no UTF-8; expected Unicode text: "
                f"remove it, or replace it by U+FFFD"
            )
    if not trace.messages:
        raise UsageError(f"{named}: has an empty conversation, expected messages of a user and an assistant")
    spoken = [message["role"] for message in trace.messages if message["role"] != "system"]
    if "assistant" not in spoken:
        raise NotATrace("without a reply of the model")
    if spoken[0] == "assistant":
        raise UsageError(
            f"{named}: the assistant speaks first, which many chat templates refuse; expected a user's message before "
            f"the first reply"
        )


def _contents(messages: Sequence[dict[str, str]]) -> list[str]:
    return [message["content"] for message in messages]


def _lone_surrogate(text: str) -> int | None:
    """The first lone surrogate in a text. In Python every surrogate of a text is a lone one."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return ord(text[error.start])
    return None
