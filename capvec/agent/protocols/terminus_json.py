r"""`terminus-json`: one JSON object in each reply, as in Terminal-Bench's Terminus 2.

    {"analysis": "…", "plan": "…", "commands": [{"keystrokes": "ls\n", "duration": 0.1}], "task_complete": false}

What is run is what the model wrote, whole, or nothing. How a reply is parsed, after a thought (`<think>…</think>`) at
its start is removed:

- strict: the whole text is such an object. `duration` and `task_complete` may be missing, as in Terminus 2;
- repaired: text or a code fence around the object, a trailing comma, a missing last bracket if a key follows the
  commands, bare line breaks in strings, `task_complete` as the string "true" or "false", a `duration` that is not a
  number, a missing `analysis` or `plan` (nothing that runs is lost);
- failed: no such object, `commands` missing while `task_complete` is not true, a command that is not an object with
  text in `keystrokes`, or one that leaves a heredoc open. So is an object that is cut, holds a key twice, or stands
  among parts of another: quotes or brackets around it show that a string ended too early. Nothing of a failed reply is
  run;
- done: `task_complete` is true; commands beside it run first;
- no_cmd: `commands` is empty, or holds only empty keystrokes (Terminus 2's way to wait), and the task is not complete.

The shell is not a terminal: keystrokes are run as a command, with or without a final line break. `\r\n` becomes `\n` if
every line of the keystrokes ends so; otherwise it stays where it stands in a heredoc or in quotes, and a reply with one
elsewhere fails. `duration` is ignored, because each command runs until it ends or times out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from capvec.agent.protocols.base import JSON_COMMAND, JSON_SPACE, JSON_TEXT, AgentProtocol, failed, parser
from capvec.agent.protocols.shelltext import problem, unix_lines
from capvec.jsontext import find_object
from capvec.records import Parse

_S = JSON_SPACE
_STROKES = (
    rf'\{{{_S}"keystrokes":{_S}"{JSON_COMMAND}",{_S}"duration":{_S}(?:0|[1-9][0-9]{{0,2}})(?:\.[0-9]{{1,3}})?{_S}\}}'
)
_SOME = rf'"commands":{_S}\[{_S}{_STROKES}(?:,{_S}{_STROKES})*{_S}\],{_S}"task_complete":{_S}(?:true|false)'
_NONE = rf'"commands":{_S}\[{_S}\],{_S}"task_complete":{_S}true'
GRAMMAR = rf'\{{{_S}"analysis":{_S}"{JSON_TEXT}",{_S}"plan":{_S}"{JSON_TEXT}",{_S}(?:{_SOME}|{_NONE}){_S}\}}'
"""The object with its four keys in their order, and a command unless the task is complete. Escapes by number, which may
stand for NUL or half a character, are left out."""
_INSIDE = re.compile(r'"keystrokes"\s*:\s*"(?:[^"\\]|\\.)*\Z', re.DOTALL)
_KEY = re.compile(r'"(?:commands|keystrokes|task_complete)"')


def _parse(text: str) -> Parse:
    text = text.strip()
    found = find_object(text, lambda value: "commands" in value or "task_complete" in value)
    if found is None:
        return failed(
            "The reply holds no whole JSON object with the keys analysis, plan, commands and task_complete, each once."
        )
    if found.unclosed and ("commands" not in found.value or list(found.value)[-1] == "commands"):
        return failed("The JSON object lacks its end, so its commands may be cut.")
    if _torn(text[: found.start], text[found.end :]):
        return failed("The reply is more than one JSON object, or a string in it ends too early: escape its quotes.")
    notes = [found.mended] if found.mended else []
    if text[: found.start].strip() or text[found.end :].strip():
        notes.append("text around the JSON object was ignored")
    missing = [key for key in ("analysis", "plan") if not isinstance(found.value.get(key), str)]
    if missing:
        notes.append(f"{' and '.join(missing)} missing")
    complete, note = _complete(found.value.get("task_complete", False))
    if note:
        notes.append(note)
    if "commands" not in found.value and not complete:
        return failed("The JSON object lacks the key commands.")
    sure = not found.mended and "task_complete" in found.value
    commands, fault = _commands(found.value.get("commands", []), notes, sure=sure)
    if fault:
        return failed(fault)
    return Parse("repaired" if notes else "strict", commands, complete, "; ".join(notes))


def _in_command(text: str) -> bool:
    """Whether a text ends inside an object with commands, or inside a command, which may hold brackets of its own."""
    return _INSIDE.search(text) is not None or ('"keystrokes"' in text and text.count("{") > text.count("}"))


parse = parser(_parse, _in_command)
"""Read a `terminus-json` reply. Never raises."""


def render(commands: Sequence[str], done: bool = False) -> str:
    """The strict reply that runs the commands in order and then, if `done`, ends."""
    strokes = [{"keystrokes": command + "\n", "duration": 1.0} for command in commands]
    return json.dumps({"analysis": "", "plan": "", "commands": strokes, "task_complete": done}, ensure_ascii=False)


def _torn(before: str, after: str) -> bool:
    """Whether the text around an object holds parts of another, or the rest of a command that a quote has cut."""
    _, quote, rest = after.partition('"')
    return (
        before.count("{") > before.count("}")
        or _KEY.search(before + after) is not None
        or bool(quote and ("}" in rest or "]" in rest))
    )


def _complete(value: Any) -> tuple[bool, str]:
    if isinstance(value, bool):
        return value, ""
    said = isinstance(value, str | int) and str(value).strip().lower() in {"true", "1", "yes"}
    return said, "task_complete was not true or false"


def _commands(value: Any, notes: list[str], *, sure: bool) -> tuple[tuple[str, ...], str]:
    """The commands, and what is wrong with them; repairs are added to `notes`; `sure`: the object is whole."""
    if not isinstance(value, list):
        return (), f"commands must be a list of objects, not {type(value).__name__}."
    commands = []
    for number, entry in enumerate(value, start=1):
        if not isinstance(entry, dict) or not isinstance(entry.get("keystrokes"), str):
            return (), f"Command {number} must be an object with text in keystrokes."
        duration = entry.get("duration", 1.0)
        if isinstance(duration, bool) or not isinstance(duration, int | float):
            notes.append(f"the duration of command {number} was not a number")
        command = unix_lines(entry["keystrokes"]).removesuffix("\n").removesuffix("\r")
        if found := problem(command, sure=sure):
            return (), f"Command {number}: {found}"
        if command.strip():
            commands.append(command)
    return tuple(commands), ""


TERMINUS_JSON = AgentProtocol(
    name="terminus-json",
    system=(
        "You are an agent in a Linux shell. You solve the user's task by running commands, one reply at a time.\n"
        "Each reply is one JSON object and nothing else:\n\n"
        "{\n"
        '  "analysis": "what the state of the task is",\n'
        '  "plan": "what you do next and why",\n'
        '  "commands": [{"keystrokes": "ls -la\\n", "duration": 1.0}],\n'
        '  "task_complete": false\n'
        "}\n\n"
        "commands are run in order; each keystrokes is one bash command that ends in a line break. The shell keeps its "
        "directory and variables between replies. After each reply you are told the exit codes and the output. There "
        "is no terminal: interactive programs and control keys do not work.\n"
        'When the task is finished and checked, reply with "task_complete": true and "commands": [].'
    ),
    brief=(
        "You are an agent in a Linux shell. Reply with one JSON object: analysis, plan, commands, task_complete. "
        "When the task is finished, set task_complete to true."
    ),
    reminder=(
        'Reply with one JSON object and nothing else: {"analysis": "…", "plan": "…", '
        '"commands": [{"keystrokes": "…\\n", "duration": 1.0}], "task_complete": false}'
    ),
    parse=parse,
    render=render,
    in_command=_in_command,
    grammar=GRAMMAR,
)
