r"""Tool calls in a model's text, as Qwen and Hermes write them.

    <tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>                     Qwen2.5, Qwen3, Hermes
    <tool_call><function=bash><parameter=command>ls</parameter></function></tool_call>          Qwen3-Coder, Qwen3.5

JSON calls without tags, alone or in a list and with nothing else around them, are calls too.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import Any

from capvec.jsontext import Found, decode, find_object

OPEN, CLOSE = "<tool_call>", "</tool_call>"

START = re.compile(r"<tool_call>|<function=")
"""Where a call with tags begins."""
_TAG = re.compile(r"</?tool_call>|</?function\b|</?parameter\b")
_FUNCTION = re.compile(r"<function=([^>\s]*)>")
_FUNCTION_END = re.compile(r"\s*</function>")
_PARAMETER = re.compile(r"\s*<parameter=([^>\s]*)>")
_VALUE_END = re.compile(r"</parameter>(?=\s*(?:<parameter=[^>\s]*>|</function>\s*(?:</?tool_call>|<function=|\Z)))")
_NESTED = re.compile(r"<parameter=[^>\s]*>|<function=[^>\s]*>|<tool_call>\s*\{")
_LINE_BREAK_BEFORE, _LINE_BREAK_AFTER = re.compile(r"\A\r?\n"), re.compile(r"\r?\n\Z")
_COMMENT = re.compile(r"(?:\A|[\s;&|()<>`])#")
_SPACE = re.compile(r"\s*")
_BETWEEN_BARE = re.compile(r"```\w*|[\s,]")
MAX_BARE = 16
"""Most calls without tags in one reply, which bounds the time for a hostile one."""
_SPARE_BRACKETS = re.compile(r"[\s}\]]*")


class UnreadableCall(ValueError):
    """A call that cannot be read; the message is a whole sentence."""


@dataclass(frozen=True)
class ToolCall:
    """A call, as the model wrote it."""

    name: Any
    arguments: Any
    """An object by its keys; None where they are something else."""
    end: int
    """Where the call, closing tag included, ends in the text."""
    mended: str = ""
    """The repair; empty if there was none."""
    tagged: bool = False
    """Whether tags and not JSON strings show where its values end."""
    commented: bool = False
    """Whether these tags may stand in a comment of the command."""


def read_calls(text: str) -> tuple[list[ToolCall], list[str]]:
    """The calls in order, and the repairs.

    Raises:
        UnreadableCall: one of them cannot be read, or may be cut.
    """
    if not _TAG.search(text):
        return _read_bare(text)
    calls: list[ToolCall] = []
    notes: list[str] = []
    outside: list[str] = []
    position = 0
    while start := START.search(text, position):
        outside.append(text[position : start.start()])
        call = _read_call(text, start)
        if call is None:
            raise UnreadableCall(f"Tool call {len(calls) + 1} cannot be read: expected JSON with name and arguments.")
        if call.mended:
            notes.append(call.mended)
        calls.append(call)
        position = call.end
    outside.append(text[position:])
    if tag := next(filter(None, map(_TAG.search, outside)), None):
        raise UnreadableCall(f"{tag[0]} stands outside a call, so a command may be cut; write each tag of a call once.")
    if any(between.strip() for between in outside[1:-1]):
        notes.append("text between the calls was ignored")
    if outside[-1].strip():
        notes.append("text after the last call was ignored")
    return calls, notes


def _read_call(text: str, start: re.Match[str]) -> ToolCall | None:
    if start[0] != OPEN:
        call = _close(text, _read_function(text, start.start()))
        return replace(call, mended="a function stood outside <tool_call>")
    body = _skip(_SPACE, text, start.end())
    if text.startswith("<function=", body):
        return _close(text, _read_function(text, body))
    found = decode(text, body)
    if found is None or found.unclosed:
        # Repair within this call only, so that the next one is kept. The arguments must be closed.
        end = text.find(CLOSE, body)
        found = decode(text[:end], body) if end >= 0 and text[:end].rstrip().endswith("}") else None
    return _close(text, _from_json(found)) if found else None


def _from_json(found: Found) -> ToolCall:
    value, mended = found.value, found.mended
    arguments = value.get("arguments")
    if arguments is None and "parameters" in value:
        arguments, mended = value["parameters"], "the arguments were called parameters"
    if isinstance(arguments, str):
        inner = decode(arguments.strip())
        whole = inner is not None and not inner.unclosed and inner.end == len(arguments.strip())
        arguments, mended = (inner.value if inner and whole else None), "the arguments were JSON in a string"
    return ToolCall(value.get("name"), arguments, found.end, mended)


def _read_function(text: str, start: int) -> ToolCall:
    """The XML form at `text[start]`, without the tags around it."""
    head = _FUNCTION.match(text, start)
    if head is None:
        raise UnreadableCall("A call begins with <function=bash>.")
    position = head.end()
    arguments: dict[str, str] = {}
    commented = False
    while parameter := _PARAMETER.match(text, position):
        if parameter[1] in arguments:
            raise UnreadableCall(f"The parameter {parameter[1]!r:.40} stands twice in one call.")
        arguments[parameter[1]], position = _read_value(text, parameter.end())
        commented = bool(_COMMENT.search(text[parameter.end() : position].rpartition("\n")[2]))
    end = _FUNCTION_END.match(text, position)
    if end is None:
        raise UnreadableCall("A call ends with </function></tool_call>, and nothing else stands around its parameters.")
    return ToolCall(head[1], arguments, end.end(), tagged=True, commented=commented)


def _read_value(text: str, start: int) -> tuple[str, int]:
    """The parameter's value, and where its closing tag ends."""
    end = _VALUE_END.search(text, start)
    if end is None:
        raise UnreadableCall("A call ends with </parameter></function></tool_call>; without them it may be cut.")
    if nested := _NESTED.search(text, start, end.start()):
        raise UnreadableCall(f"{nested[0]:.40} stands inside a value, so it is unclear where the value ends.")
    value = text[start : end.start()]
    # The format puts the value on its own lines; one line break on each side is not part of it.
    return _LINE_BREAK_AFTER.sub("", _LINE_BREAK_BEFORE.sub("", value)), end.end()


def _close(text: str, call: ToolCall) -> ToolCall:
    """The call with its closing tag; a bracket too many before it, or a missing tag, is a repair."""
    end = _skip(_SPACE, text, call.end)
    if text.startswith(CLOSE, end):
        end += len(CLOSE)
        after = _skip(_SPACE, text, end)
        if call.commented and after < len(text) and not START.match(text, after):
            raise UnreadableCall(f"Text follows {CLOSE}, so its tags may stand in a comment of the command.")
        return replace(call, end=end)
    if not call.tagged and text.startswith(CLOSE, spare := _skip(_SPARE_BRACKETS, text, end)):
        return replace(call, end=spare + len(CLOSE), mended=call.mended or "the JSON had a bracket too many")
    if end < len(text) and not START.match(text, end):
        raise UnreadableCall(f"A call ends with {CLOSE}; other text stands there, so the call may be cut.")
    if call.commented:
        said = "without it, the last tags may stand in a comment of the command."
        raise UnreadableCall(f"A call ends with {CLOSE}; {said}")
    return replace(call, mended=call.mended or f"{CLOSE} was missing")


def _skip(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _read_bare(text: str) -> tuple[list[ToolCall], list[str]]:
    """JSON calls without tags count only if the reply holds nothing else but a code fence and the marks of a list."""
    found: list[Found] = []
    around, position = "", 0
    while len(found) < MAX_BARE and (call := find_object(text[position:], _is_call)):
        found.append(call)
        around += text[position : position + call.start]
        position += call.end
    around = _BETWEEN_BARE.sub("", around + text[position:])
    if not found or around not in {"", "[", "[]"}:
        return [], []
    if found[-1].unclosed or around == "[":
        raise UnreadableCall("The call lacks its last bracket, so it may be cut.")
    return [_from_json(call) for call in found], [f"{OPEN} was missing"]


def _is_call(value: dict[str, Any]) -> bool:
    return "name" in value and ("arguments" in value or "parameters" in value)
