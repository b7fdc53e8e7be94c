r"""`tool-call`: tool calls in tags, as Qwen and Hermes write them.

    <tool_call>{"name": "bash", "arguments": {"command": "ls"}}</tool_call>                     Qwen2.5, Qwen3, Hermes
    <tool_call><function=bash><parameter=command>ls</parameter></function></tool_call>          Qwen3-Coder, Qwen3.5

What is run is every command that the model wrote, whole, or nothing. How a reply is parsed, after a thought
(`<think>…</think>`) at its start is removed:

- strict: any number of well-formed calls, with free text only before the first. They run in order;
- done: a call of `finish` or `submit`, as the last one; calls before it run first;
- repaired: a missing `</tool_call>` after a whole JSON call, a function outside `<tool_call>`, JSON calls without tags
  or a list of them and nothing else, repaired JSON (see `jsontext`), a bracket too many, `parameters` for `arguments`,
  arguments given as JSON in a string, text between or after the calls;
- failed: a call is malformed, names another tool, holds an argument twice, or has no text in `command`; a call follows
  `finish`; a tag stands outside the calls. Then nothing of the reply is run, because later calls may depend on that
  call;
- no_cmd: no call at all, or only calls of `bash` with an empty command.

The second form has no way to quote a tag. A value ends at the first `</parameter>` that another parameter or
`</function>` follows, and that form fails without `</parameter></function>`, with a parameter or a call inside a
value, with a command that leaves a quotation open, and where text follows a call whose last tags stand on a line of the
command after a `#`: each may be a command that a tag has cut. A command that leaves a heredoc open fails in both forms.

`\r\n` becomes `\n` if every line of the command ends so. Otherwise it stays where it stands in a heredoc or in quotes,
and a reply with one elsewhere fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from capvec.agent.protocols.base import AgentProtocol, failed, parser
from capvec.agent.protocols.jsontext import Found, decode, find_object
from capvec.agent.protocols.shelltext import problem, unix_lines
from capvec.records import Parse

OPEN, CLOSE = "<tool_call>", "</tool_call>"
FINISHERS = ("finish", "submit")

_START = re.compile(r"<tool_call>|<function=")
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


class _Unreadable(Exception):
    """A call that cannot be read; the message is a whole sentence."""


@dataclass(frozen=True)
class _Call:
    name: Any
    arguments: Any
    end: int
    """Where the call, closing tag included, ends in the text."""
    mended: str = ""
    tagged: bool = False
    """Whether tags and not JSON strings show where its values end."""
    commented: bool = False
    """Whether these tags may stand in a comment of the command."""


def _parse(text: str) -> Parse:
    try:
        calls, notes = _read(text)
        commands = [_command(call) for call in calls if call.name not in FINISHERS]
    except _Unreadable as fault:
        return failed(str(fault))
    done = bool(calls) and calls[-1].name in FINISHERS
    if len(commands) + done != len(calls):
        return failed("Calls follow finish, which ends the work; call finish alone, after the others are answered.")
    commands = [command for command in commands if command.strip()]
    return Parse("repaired" if notes else "strict", tuple(commands), done, "; ".join(notes))


def _in_command(text: str) -> bool:
    """Whether a text ends inside a call: it begins one and does not hold whole calls alone."""
    return bool(_START.search(text)) and _parse(text).status == "failed"


parse = parser(_parse, _in_command)
"""Read a `tool-call` reply. Never raises."""


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply, in the JSON form, that runs the commands in order and then, if `done`, ends."""
    calls: list[dict[str, Any]] = [{"name": "bash", "arguments": {"command": command}} for command in commands]
    if done:
        calls.append({"name": "finish", "arguments": {}})
    return "\n".join(f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}" for call in calls)


def _command(call: _Call) -> str:
    """The command of a call of `bash`."""
    if call.name != "bash":
        raise _Unreadable(f"There is no tool {call.name!r:.60}; the tools are bash and finish.")
    command = call.arguments.get("command") if isinstance(call.arguments, dict) else None
    if not isinstance(command, str):
        raise _Unreadable('The call of bash lacks its argument "command", which must be text.')
    command = unix_lines(command)
    if found := problem(command, sure=not call.tagged and not call.mended):
        raise _Unreadable(found)
    return command


def _read(text: str) -> tuple[list[_Call], list[str]]:
    """The calls in order, and the repairs."""
    if not _TAG.search(text):
        return _read_bare(text)
    calls: list[_Call] = []
    notes: list[str] = []
    outside: list[str] = []
    position = 0
    while start := _START.search(text, position):
        outside.append(text[position : start.start()])
        call = _read_call(text, start)
        if call is None:
            raise _Unreadable(f"Tool call {len(calls) + 1} cannot be read: expected JSON with name and arguments.")
        if call.mended:
            notes.append(call.mended)
        calls.append(call)
        position = call.end
    outside.append(text[position:])
    if tag := next(filter(None, map(_TAG.search, outside)), None):
        raise _Unreadable(f"{tag[0]} stands outside a call, so a command may be cut; write each tag of a call once.")
    if any(between.strip() for between in outside[1:-1]):
        notes.append("text between the calls was ignored")
    if outside[-1].strip():
        notes.append("text after the last call was ignored")
    return calls, notes


def _read_call(text: str, start: re.Match[str]) -> _Call | None:
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


def _from_json(found: Found) -> _Call:
    value, mended = found.value, found.mended
    arguments = value.get("arguments")
    if arguments is None and "parameters" in value:
        arguments, mended = value["parameters"], "the arguments were called parameters"
    if isinstance(arguments, str):
        inner = decode(arguments.strip())
        whole = inner is not None and not inner.unclosed and inner.end == len(arguments.strip())
        arguments, mended = (inner.value if inner and whole else None), "the arguments were JSON in a string"
    return _Call(value.get("name"), arguments, found.end, mended)


def _read_function(text: str, start: int) -> _Call:
    """The XML form at `text[start]`, without the tags around it."""
    head = _FUNCTION.match(text, start)
    if head is None:
        raise _Unreadable("A call begins with <function=bash>.")
    position = head.end()
    arguments: dict[str, str] = {}
    commented = False
    while parameter := _PARAMETER.match(text, position):
        if parameter[1] in arguments:
            raise _Unreadable(f"The parameter {parameter[1]!r:.40} stands twice in one call.")
        arguments[parameter[1]], position = _read_value(text, parameter.end())
        commented = bool(_COMMENT.search(text[parameter.end() : position].rpartition("\n")[2]))
    end = _FUNCTION_END.match(text, position)
    if end is None:
        raise _Unreadable("A call ends with </function></tool_call>, and nothing else stands around its parameters.")
    return _Call(head[1], arguments, end.end(), tagged=True, commented=commented)


def _read_value(text: str, start: int) -> tuple[str, int]:
    """The parameter's value, and where its closing tag ends."""
    end = _VALUE_END.search(text, start)
    if end is None:
        raise _Unreadable("A call ends with </parameter></function></tool_call>; without them it may be cut.")
    if nested := _NESTED.search(text, start, end.start()):
        raise _Unreadable(f"{nested[0]:.40} stands inside a value, so it is unclear where the value ends.")
    value = unix_lines(text[start : end.start()])
    # The format puts the value on its own lines; one line break on each side is not part of it.
    return _LINE_BREAK_AFTER.sub("", _LINE_BREAK_BEFORE.sub("", value)), end.end()


def _close(text: str, call: _Call) -> _Call:
    """The call with its closing tag; a bracket too many before it, or a missing tag, is a repair."""
    end = _skip(_SPACE, text, call.end)
    if text.startswith(CLOSE, end):
        end += len(CLOSE)
        after = _skip(_SPACE, text, end)
        if call.commented and after < len(text) and not _START.match(text, after):
            raise _Unreadable(f"Text follows {CLOSE}, so its tags may stand in a comment of the command.")
        return replace(call, end=end)
    if not call.tagged and text.startswith(CLOSE, spare := _skip(_SPARE_BRACKETS, text, end)):
        return replace(call, end=spare + len(CLOSE), mended=call.mended or "the JSON had a bracket too many")
    if end < len(text) and not _START.match(text, end):
        raise _Unreadable(f"A call ends with {CLOSE}; other text stands there, so the call may be cut.")
    if call.commented:
        raise _Unreadable(f"A call ends with {CLOSE}; without it, the last tags may stand in a comment of the command.")
    return replace(call, mended=call.mended or f"{CLOSE} was missing")


def _skip(pattern: re.Pattern[str], text: str, start: int) -> int:
    found = pattern.match(text, start)
    return found.end() if found else start


def _read_bare(text: str) -> tuple[list[_Call], list[str]]:
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
        raise _Unreadable("The call lacks its last bracket, so it may be cut.")
    return [_from_json(call) for call in found], [f"{OPEN} was missing"]


def _is_call(value: dict[str, Any]) -> bool:
    return "name" in value and ("arguments" in value or "parameters" in value)


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
    in_command=_in_command,
)
