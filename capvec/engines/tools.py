"""Tools in a chat: how the model is told of them, and its calls.

A chat template that knows tools renders them, earlier calls and results itself. For any other one, the system prompt
and the messages say the same in words, as Hermes models read it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import uuid4

from capvec.engines.chat_messages import ChatMessage
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import RequestError
from capvec.errors import UsageError
from capvec.tool_calls import CLOSE, OPEN, UnreadableCall, read_calls
from capvec.tool_calls import ToolCall as Written

_PROBE = "capvec_probe"
_WORDS = """# Tools

You may call functions. Their signatures are within <tools></tools> tags:
<tools>
{signatures}
</tools>

For each call, write a JSON object with the function's name and arguments within <tool_call></tool_call> tags:
<tool_call>
{{"name": <name>, "arguments": <object>}}
</tool_call>"""


@dataclass(frozen=True)
class Tools:
    """The tools of a chat."""

    listed: tuple[Mapping[str, Any], ...] = ()
    """As OpenAI's clients describe them; none where the model must not call any."""
    choice: Literal["none", "auto", "required"] = "auto"
    name: str = ""
    """The one that must be called; empty for any."""
    parallel: bool = True
    """Whether a reply may have several calls; else those after the first are left out."""

    def __bool__(self) -> bool:
        return bool(self.listed)


@dataclass(frozen=True)
class Call:
    """A call of a tool, in an answer."""

    id: str
    name: str
    arguments: str
    """JSON."""

    def to_json(self) -> dict[str, Any]:
        return {"id": self.id, "type": "function", "function": {"name": self.name, "arguments": self.arguments}}


def knows_tools(template: ChatTemplate) -> bool:
    """Whether a chat template tells the model of the tools that it is given."""
    tool = {"type": "function", "function": {"name": _PROBE, "description": "d", "parameters": {"type": "object"}}}
    try:
        return _PROBE in template.text([{"role": "user", "content": "a"}], prompt=True, tools=[tool])
    except UsageError:
        return False


def in_words(messages: Sequence[ChatMessage], tools: Tools) -> tuple[ChatMessage, ...]:
    """The conversation for a template that knows no tools: they, earlier calls and results are text."""
    said: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "tool":
            content = f"<tool_response>\n{message['content']}\n</tool_response>"
            if said and said[-1].get("results"):
                said[-1]["content"] += f"\n{content}"
            else:
                said.append({"role": "user", "content": content, "results": True})
            continue
        calls = [_written(call["function"]) for call in message.get("tool_calls", ())]
        content = "\n".join(filter(None, (message["content"], *calls)))
        said.append({key: message[key] for key in ("role", "reasoning_content") if key in message})
        said[-1]["content"] = content
    for message in said:
        message.pop("results", None)
    if not tools:
        return tuple(said)
    words = _WORDS.format(signatures="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools.listed))
    if said[0]["role"] == "system":
        return ({"role": "system", "content": f"{said[0]['content']}\n\n{words}"}, *said[1:])
    return ({"role": "system", "content": words}, *said)


def opening(template: ChatTemplate, tools: Tools, *, known: bool) -> str:
    """How a reply begins that has to call a tool; empty where it need not.

    Args:
        template: of the model.
        tools: of the chat.
        known: whether the template knows tools.

    Raises:
        RequestError: the template does not show how its calls begin.
    """
    if tools.choice != "required":
        return ""
    before, after = _around_name(template, tools) if known else (f'{OPEN}\n{{"name": "', '"')
    return before + (tools.name + after if tools.name else "")


def _around_name(template: ChatTemplate, tools: Tools) -> tuple[str, str]:
    """What a template writes in a reply before the name of a call, and the character behind it."""
    user: ChatMessage = {"role": "user", "content": "a"}
    function = {"name": _PROBE, "arguments": {"b": "c"}}
    reply = {"role": "assistant", "content": "", "tool_calls": [{"type": "function", "function": function}]}
    try:
        prompt = template.text([user], prompt=True, tools=tools.listed)
        whole = template.text([user, reply], prompt=False, tools=tools.listed)
    except UsageError:
        prompt = whole = ""
    head, found, after = whole.partition(_PROBE)
    # Where the prompt holds an empty thought and an earlier reply does not, the mark alone shows the beginning.
    before = head[head.rfind(OPEN) :] if OPEN in head.removeprefix(prompt[:-1]) else head.removeprefix(prompt)
    if not found or before == head:
        raise RequestError(
            f"tool_choice: {tools.name or tools.choice!r}: the model's chat template does not show how a reply begins "
            "with a call; use auto",
            "unsupported_value",
        )
    return before, after[:1]


def calls_of(text: str, tools: Tools) -> tuple[str, tuple[Call, ...]]:
    """The words before the first call of a reply, and its calls.

    A reply with a call that cannot be read has none, and is all words: the model wrote them, and its client sees them.
    """
    if not tools:
        return text, ()
    try:
        written, _ = read_calls(text)
        calls = tuple(_call(one, tools) for one in written)
    except UnreadableCall:
        return text, ()
    if not calls:
        return text, ()
    words = text[: min(at for mark in MARKS if (at := text.find(mark)) >= 0)] if _tagged(text) else ""
    return words, calls if tools.parallel else calls[:1]


MARKS = (OPEN, "<function=")
"""Texts with which calls begin that have tags."""


def may_be_bare(text: str) -> bool:
    """Whether the beginning of a reply may be that of calls without tags."""
    return text.lstrip()[:1] in ("", "{", "[", "`")


def _tagged(text: str) -> bool:
    return any(mark in text for mark in MARKS)


def _call(written: Written, tools: Tools) -> Call:
    if not isinstance(written.name, str) or not isinstance(written.arguments, dict | None):
        raise UnreadableCall("A call has a name, and arguments that are an object.")
    arguments = written.arguments or {}
    if written.tagged:
        functions = {tool["function"]["name"]: tool["function"] for tool in tools.listed}
        known: Mapping[str, Any] = functions.get(written.name, {})
        arguments = {name: _typed(value, _schema(known, name)) for name, value in arguments.items()}
    return Call(f"call_{uuid4().hex[:24]}", written.name, json.dumps(arguments, ensure_ascii=False))


def _schema(function: Mapping[str, Any], name: str) -> Any:
    """What a function says of an argument; None where it says nothing."""
    properties = (function.get("parameters") or {}).get("properties")
    return properties.get(name) if isinstance(properties, dict) else None


def _typed(text: str, schema: Any) -> Any:
    """The value of an argument that was written without quotes: JSON, unless a text is expected."""
    if not isinstance(schema, dict) or schema.get("type") in (None, "string"):
        return text
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def _written(function: Mapping[str, Any]) -> str:
    """A call of an earlier reply, as text."""
    said = {"name": function["name"], "arguments": function["arguments"]}
    return f"{OPEN}\n{json.dumps(said, ensure_ascii=False)}\n{CLOSE}"
