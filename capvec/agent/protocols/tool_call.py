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
from collections.abc import Sequence
from typing import Any

from capvec.agent.protocols.base import JSON_COMMAND, JSON_SPACE, AgentProtocol, failed, parser
from capvec.agent.protocols.shelltext import problem, unix_lines
from capvec.records import Parse
from capvec.tool_calls import CLOSE, OPEN, START, ToolCall, UnreadableCall, read_calls

FINISHERS = ("finish", "submit")
_S = JSON_SPACE
_BASH = rf'"name":{_S}"bash",{_S}"arguments":{_S}\{{{_S}"command":{_S}"{JSON_COMMAND}"{_S}\}}'
_FINISH = rf'"name":{_S}"finish",{_S}"arguments":{_S}\{{{_S}\}}'
_VALUE = r"[^<\s\x00](?:[^<\r\x00]|<+[^</pft\r\x00])*"
_IN_TAGS = rf"<function=bash>\n<parameter=command>\n{_VALUE}\n</parameter>\n</function>"


def _calls(bash: str, finish: str) -> str:
    """Any number of commands, and then the end of the work or not."""
    bash, finish = (f"{OPEN}\n{call}\n{CLOSE}" for call in (bash, finish))
    return rf"(?:{bash}(?:\n{bash})*(?:\n{finish})?|{finish})"


_JSON_CALLS = _calls(rf"\{{{_S}{_BASH}{_S}\}}", rf"\{{{_S}{_FINISH}{_S}\}}")
_TAGGED_CALLS = _calls(_IN_TAGS, r"<function=finish>\n</function>")
GRAMMAR = rf"[^<{{\r\x00]*(?:{_JSON_CALLS}|{_TAGGED_CALLS})"
"""Prose without `<` and `{`, then calls in one of the two forms. In the second, a `<` of a command is followed by none
of the signs with which a tag could begin."""


def _parse(text: str) -> Parse:
    try:
        calls, notes = read_calls(text)
        commands = [_command(call) for call in calls if call.name not in FINISHERS]
    except UnreadableCall as fault:
        return failed(str(fault))
    done = bool(calls) and calls[-1].name in FINISHERS
    if len(commands) + done != len(calls):
        return failed("Calls follow finish, which ends the work; call finish alone, after the others are answered.")
    commands = [command for command in commands if command.strip()]
    return Parse("repaired" if notes else "strict", tuple(commands), done, "; ".join(notes))


def _in_command(text: str) -> bool:
    """Whether a text ends inside a call: it begins one and does not hold whole calls alone."""
    return bool(START.search(text)) and _parse(text).status == "failed"


parse = parser(_parse, _in_command)
"""Read a `tool-call` reply. Never raises."""


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply, in the JSON form, that runs the commands in order and then, if `done`, ends."""
    calls: list[dict[str, Any]] = [{"name": "bash", "arguments": {"command": command}} for command in commands]
    if done:
        calls.append({"name": "finish", "arguments": {}})
    return "\n".join(f"{OPEN}\n{json.dumps(call, ensure_ascii=False)}\n{CLOSE}" for call in calls)


def _command(call: ToolCall) -> str:
    """The command of a call of `bash`."""
    if call.name != "bash":
        raise UnreadableCall(f"There is no tool {call.name!r:.60}; the tools are bash and finish.")
    command = call.arguments.get("command") if isinstance(call.arguments, dict) else None
    if not isinstance(command, str):
        raise UnreadableCall('The call of bash lacks its argument "command", which must be text.')
    command = unix_lines(command)
    if found := problem(command, sure=not call.tagged and not call.mended):
        raise UnreadableCall(found)
    return command


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
    grammar=GRAMMAR,
)
