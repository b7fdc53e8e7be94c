"""`tool-call`: tool calls in tags, as Qwen and Hermes write them.

    <tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>                     Qwen2.5, Qwen3, Hermes
    <tool_call><function=bash><parameter=command>ls</parameter></function></tool_call>          Qwen3-Coder, Qwen3.5

How a reply is parsed, after a thought (`<think>…</think>`) at its start is removed:

- strict: any number of well-formed calls, with free text only before the first. They run in order;
- done: a call of `finish` or `submit`; calls before it run first, calls after it are dropped (repaired);
- repaired: a missing closing tag, a function outside `<tool_call>`, a bare JSON call without tags, repaired JSON (see
  `jsontext`), `parameters` for `arguments`, arguments given as JSON in a string, text between or after the calls;
- failed: a call is malformed, names another tool, or has no text in `command`. Then nothing of the reply is run,
  because later calls may depend on that call;
- no_cmd: no call at all, or only calls of `bash` with an empty command.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from capvec.agent.protocols.base import AgentProtocol, failed, strip_thought
from capvec.agent.protocols.jsontext import Found, decode, find_object
from capvec.records import Parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FINISHERS = ("finish", "submit")

_START = re.compile(r"<tool_call>|<function=")
_FUNCTION = re.compile(r"<function=([^>\s]*)>")
_FUNCTION_END = re.compile(r"</function>|(?=</tool_call>|<tool_call>|<function=)|\Z")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]*)>")
_PARAMETER_CLOSE = "</parameter>"
_PARAMETER_LOST = re.compile(r"<parameter=|</function>|</tool_call>|<tool_call>|\Z")
_SPACE = re.compile(r"\s*")


@dataclass(frozen=True)
class _Call:
    name: Any
    arguments: Any
    end: int
    """Where the call, closing tag included, ends in the text."""
    mended: str = ""


def parse(text: str) -> Parse:
    """Read a `tool-call` reply. Never raises."""
    calls, notes, problem = _read(strip_thought(text))
    if problem:
        return failed(problem)
    commands: list[str] = []
    for number, call in enumerate(calls, start=1):
        if call.name in FINISHERS:
            if number < len(calls):
                notes.append(f"{len(calls) - number} calls after {call.name} were dropped")
            return Parse("repaired" if notes else "strict", tuple(commands), True, "; ".join(notes))
        if call.name != "bash":
            return failed(f"There is no tool {call.name!r:.60}; the tools are bash and finish.")
        command = call.arguments.get("command") if isinstance(call.arguments, dict) else None
        if not isinstance(command, str):
            return failed('The call of bash lacks its argument "command", which must be text.')
        if command.strip():
            commands.append(command)
    return Parse("repaired" if notes else "strict", tuple(commands), False, "; ".join(notes))


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply, in the JSON form, that runs the commands in order and then, if `done`, ends."""
    calls: list[dict[str, Any]] = [{"name": "bash", "arguments": {"command": command}} for command in commands]
    if done:
        calls.append({"name": "finish", "arguments": {}})
    return "\n".join(f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}" for call in calls)


def _read(text: str) -> tuple[list[_Call], list[str], str]:
    """The calls in order, the repairs, and what cannot be parsed."""
    if not _START.search(text):
        return _read_bare(text)
    calls: list[_Call] = []
    notes: list[str] = []
    position = 0
    while start := _START.search(text, position):
        if calls and text[position : start.start()].strip():
            notes.append("text between the calls was ignored")
        call = _read_call(text, start)
        if call is None:
            return [], [], f"Tool call {len(calls) + 1} cannot be read: expected JSON with name and arguments."
        if call.mended:
            notes.append(call.mended)
        calls.append(call)
        position = call.end
    if text[position:].strip():
        notes.append("text after the last call was ignored")
    return calls, notes, ""


def _read_call(text: str, start: re.Match[str]) -> _Call | None:
    if start[0] != OPEN:
        call = _read_function(text, start.start())
        return replace(call, mended="a function stood outside <tool_call>") if call else None
    body = _skip_space(text, start.end())
    if text.startswith("<function=", body):
        call = _read_function(text, body)
        return _close(text, call) if call else None
    found = decode(text, body)
    if found is None or found.mended:
        # Repair within this call only, so that the next one is kept.
        limits = [at for at in (text.find(CLOSE, body), text.find(OPEN, body)) if at >= 0]
        found = decode(text[: min(limits, default=len(text))], body)
    return _close(text, _from_json(found)) if found else None


def _from_json(found: Found) -> _Call:
    value, mended = found.value, found.mended
    arguments = value.get("arguments")
    if arguments is None and "parameters" in value:
        arguments, mended = value["parameters"], "the arguments were called parameters"
    if isinstance(arguments, str):
        inner = decode(arguments.strip())
        arguments, mended = (inner.value if inner else None), "the arguments were JSON in a string"
    return _Call(value.get("name"), arguments, found.end, mended)


def _read_function(text: str, start: int) -> _Call | None:
    """The XML form at `text[start]`, without the tags around it."""
    head = _FUNCTION.match(text, start)
    if head is None:
        return None
    position, mended = head.end(), ""
    arguments: dict[str, str] = {}
    while parameter := _PARAMETER.match(text, position):
        arguments[parameter[1]], position, closed = _read_value(text, parameter.end())
        mended = mended if closed else f"{_PARAMETER_CLOSE} was missing"
    end = _FUNCTION_END.search(text, position)
    if end is None or not end[0]:
        mended = mended or "</function> was missing"
    return _Call(head[1], arguments, end.end() if end else len(text), mended)


def _read_value(text: str, start: int) -> tuple[str, int, bool]:
    """The parameter's value, where it ends, and whether its closing tag was there."""
    end = text.find(_PARAMETER_CLOSE, start)
    closed = end >= 0 and not re.compile(r"<parameter=|<tool_call>").search(text, start, end)
    if not closed:
        lost = _PARAMETER_LOST.search(text, start)
        end = lost.start() if lost else len(text)
    # The format puts the value on its own lines; one line break on each side is not part of it.
    value = text[start:end].removeprefix("\n").removesuffix("\n")
    return value, end + (len(_PARAMETER_CLOSE) if closed else 0), closed


def _close(text: str, call: _Call) -> _Call:
    """The call with its closing tag; a missing one is a repair."""
    end = _skip_space(text, call.end)
    if text.startswith(CLOSE, end):
        return replace(call, end=end + len(CLOSE))
    return replace(call, mended=call.mended or f"{CLOSE} was missing")


def _skip_space(text: str, start: int) -> int:
    space = _SPACE.match(text, start)
    return space.end() if space else start


def _read_bare(text: str) -> tuple[list[_Call], list[str], str]:
    """A JSON call without tags counts only if the reply holds nothing else but a code fence."""
    found = find_object(text, lambda value: "name" in value and ("arguments" in value or "parameters" in value))
    around = text if found is None else text[: found.start] + text[found.end :]
    if found is None or re.sub(r"```\w*", "", around).strip():
        return [], [], ""
    return [_from_json(found)], [f"{OPEN} was missing"], ""


_TOOLS = (
    '{"type": "function", "function": {"name": "bash", "description": "Run a bash command; the shell keeps its '
    'directory and variables between calls.", "parameters": {"type": "object", "properties": {"command": {"type": '
    '"string"}}, "required": ["command"]}}}\n'
    '{"type": "function", "function": {"name": "finish", "description": "Say that the task is finished.", '
    '"parameters": {"type": "object", "properties": {}}}}'
)
_EXAMPLE = '<tool_call>\n{"name": "bash", "arguments": {"command": "…"}}\n</tool_call>'

TOOL_CALL = AgentProtocol(
    name="tool-call",
    system=(
        "You are an agent in a Linux shell. You solve the user's task by calling tools, one reply at a time. After "
        "each reply you are told the exit code and the output. There is no terminal: interactive programs such as "
        "editors do not work.\n\n"
        "# Tools\n\n"
        f"<tools>\n{_TOOLS}\n</tools>\n\n"
        "For each call, write a JSON object with the tool's name and arguments within <tool_call></tool_call> tags, "
        f"and nothing after the last call:\n{_EXAMPLE}\n\n"
        "When the task is finished and checked, call finish."
    ),
    brief=(
        "You are an agent in a Linux shell. Reply with one <tool_call> of bash. When the task is finished, call finish."
    ),
    reminder=(
        'Call a tool: <tool_call>{"name": "bash", "arguments": {"command": "…"}}</tool_call>, '
        "or the tool finish when the task is finished."
    ),
    parse=parse,
    render=render,
)
