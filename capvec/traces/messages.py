"""Reads the messages of a chat in the forms in which the APIs of models write them.

An entry of a list of messages is one of

- a message, `{"role", "content"}` of OpenAI and Anthropic or `{"from", "value"}` of ShareGPT, with text or a list of
  content parts, and with tool calls beside the content (OpenAI) or among its parts (Anthropic);
- an item of OpenAI's Responses API, such as `{"type": "function_call", …}`;
- a whole response of that API, `{"object": "response", "output": […]}`.

Text and calls are kept, an image becomes `[image]`, and a model's thoughts are left out. Any other type of part or item
is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from capvec.errors import UsageError
from capvec.traces.conversation import arguments_of, with_calls, without_thought
from capvec.traces.document import Document
from capvec.traces.unread import check_read

_ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "tool": "user",
    "function": "user",
    "observation": "user",
    "environment": "user",
    "ipython": "user",
    "tool-response": "user",
    "tool_response": "user",
    "function_response": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "ai": "assistant",
    "agent": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "chatgpt": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool-call": "assistant",
}
"""Role of a message → the role in a chat template. A tool's answer becomes a user message, as in `atif.py`."""

_CONTENTS = ("content", "value", "text", "system_prompt", "parts")
"""Keys of a message's content: of the APIs, of ShareGPT, of published trajectories of SWE-agent, and of AI SDK."""
_TEXT_PARTS = {"text": "text", "input_text": "text", "output_text": "text", "refusal": "refusal"}
_IMAGE_PARTS = {"image", "image_url", "input_image", "computer_screenshot"}
_THOUGHTS = {"thinking", "redacted_thinking", "reasoning", "reasoning_text"}

_UNREAD = (
    *("audio", "audios", "images", "video", "videos", "attachments", "experimental_attachments"),  # no text
    *("alternatives", "branches", "candidates", "children", "choices", "replies", "variants"),  # parallel branches
)
"""Keys beside the content of a message that hold more of what was said, or other things that were said instead."""

_MESSAGE = {"role", "from", *_CONTENTS, *_UNREAD, "refusal", "tool_calls", "function_call"}
"""Keys of a message that are read, or refused by a rule of their own."""
_ARGUMENTS = ("arguments", "input", "args", "parameters")
"""Keys of a call's arguments: of OpenAI's functions and custom tools, of LangChain, and of Llama."""

_CALL_ITEMS: dict[str, tuple[str, str]] = {
    "function_call": ("name", "arguments"),
    "custom_tool_call": ("name", "input"),
    "mcp_call": ("name", "arguments"),
    "local_shell_call": ("", "action"),
    "shell_call": ("", "action"),
    "apply_patch_call": ("", "operation"),
    "web_search_call": ("", "action"),
    "computer_call": ("", "action"),
}
"""Type of a Responses item that calls a tool → the keys of the tool's name and of its arguments.

Where there is no such key, the tool has the name of the item, without `_call`. Arguments may stand under the plural of
their key as well.
"""
_OUTPUT_ITEMS = {
    "function_call_output",
    "custom_tool_call_output",
    "local_shell_call_output",
    "shell_call_output",
    "apply_patch_call_output",
    "computer_call_output",
}
_SILENT_ITEMS = {"reasoning", "mcp_list_tools"}
_REFUSED_ITEMS = {
    "code_interpreter_call", "file_search_call", "image_generation_call", "tool_search_call", "tool_search_output",
    "mcp_approval_request", "mcp_approval_response", "item_reference", "compaction",
}  # fmt: skip
"""Items that are known for the API's, so that a conversation is recognised by them, and not read."""
_ITEMS: tuple[Collection[str], ...] = (_CALL_ITEMS, _OUTPUT_ITEMS, _SILENT_ITEMS, _REFUSED_ITEMS)


@dataclass(frozen=True)
class _Said:
    """What one entry says, in the roles of chat templates."""

    role: str
    content: str
    is_item: bool = False
    """Whether it is an item of the Responses API, which writes one reply as several items."""


def looks_like_messages(value: Any) -> bool:
    """Whether a JSON value is a list of messages or of Responses items."""
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        return False
    # One entry that is known is enough: what is not known is refused by name when it is read.
    return any(_is_entry(entry) for entry in value) and all(_is_entry(entry) or _kind(entry) for entry in value)


def _is_entry(entry: dict[str, Any]) -> bool:
    spoken = isinstance(entry.get("role"), str) or ("from" in entry and "value" in entry)
    return spoken or _is_response(entry) or any(_kind(entry) in kinds for kinds in _ITEMS)


def _is_response(entry: dict[str, Any]) -> bool:
    return entry.get("object") == "response" and isinstance(entry.get("output"), list)


def read_messages(document: Document, entries: Sequence[Any], key: str) -> list[dict[str, str]]:
    """The messages of a conversation, each of the assistant one reply of the model.

    Args:
        document: for error messages.
        entries: the list of messages.
        key: the name of the list in the document, for error messages.

    Returns:
        Objects with `role` (`system`, `user` or `assistant`) and `content`.

    Raises:
        UsageError: an entry is broken, or a part of it is not understood; the message names the key or the type.
    """
    messages: list[dict[str, str]] = []
    continues = False
    for index, entry in enumerate(entries):
        for said in _said(document, document.typed(entry, f"{key}[{index}]", dict), f"{key}[{index}]"):
            if continues and said.is_item and said.role == messages[-1]["role"] == "assistant":
                both = (messages[-1]["content"], said.content)
                messages[-1] = {"role": said.role, "content": "\n".join(text for text in both if text)}
            else:
                messages.append({"role": said.role, "content": said.content})
            continues = said.is_item
    return messages


def read_content(document: Document, content: Any, key: str) -> str:
    """The text of a content without calls: text, or a list of content parts.

    Raises:
        UsageError: the content is neither, or a part is not understood; the message names the key or the type.
    """
    text, calls = _content(document, content, key, "user")
    return with_calls(text, calls)


def only_choice(document: Document, choices: Any, key: str) -> dict[str, Any]:
    """The message of the one choice of a response. Of several, nothing says with which one the conversation went on.

    Raises:
        UsageError: there is another number of choices, or the one has no message; the message names the key.
    """
    given = document.objects(choices, key)
    if len(given) != 1:
        raise UsageError(
            f"{document.name}: `{key}` has {len(given)} choices, and a conversation has one; expected a trace for each"
        )
    return document.typed(given[0].get("message"), f"{key}[0].message", dict)


def read_calls(document: Document, calls: Any, key: str) -> Iterator[tuple[Any, Any]]:
    """Name and arguments of each of a message's tool calls, as OpenAI or Inspect write them.

    Raises:
        UsageError: a call is broken; the message names the key.
    """
    for index, call in enumerate(document.objects(calls, key)):
        # OpenAI's custom tools have an input, and Inspect's functions are a name.
        function = call.get("function", call.get("custom", call))
        if isinstance(function, str):
            function = {"name": function, "arguments": call.get("arguments")}
        function = document.typed(function, f"{key}[{index}].function", dict)
        name = document.typed(function.get("name"), f"{key}[{index}].name", str)
        given = [arguments_of(function[one]) for one in _ARGUMENTS if one in function]
        if not given:
            raise document.broken(f"{key}[{index}].arguments", None, "what the tool was called with")
        if any(other not in (given[0], None, "", {}) for other in given[1:]):
            raise document.broken(f"{key}[{index}]", call, f"one of {', '.join(_ARGUMENTS)}")
        check_read(document, function, f"{key}[{index}]", ("name", *_ARGUMENTS))
        if function is not call:
            check_read(document, call, f"{key}[{index}]", ("function", "custom", "name", *_ARGUMENTS))
        yield name, given[0]


def _said(document: Document, entry: dict[str, Any], key: str) -> Iterator[_Said]:
    kind = _kind(entry)
    if "role" in entry or "from" in entry:
        yield _message(document, entry, key)
    elif _is_response(entry):
        for index, item in enumerate(entry["output"]):
            inner = f"{key}.output[{index}]"
            yield from _said(document, document.typed(item, inner, dict), inner)
    elif kind in _CALL_ITEMS:
        yield from _called(document, entry, key)
    elif kind in _OUTPUT_ITEMS:
        output = _output(document, entry.get("output"), f"{key}.output")
        check_read(document, entry, key, ("type", "output"), output)
        yield _Said("user", output, is_item=True)
    elif kind not in _SILENT_ITEMS:
        raise _unknown(document, key, kind, "a role, or the type of a Responses item that capvec reads")


def _message(document: Document, message: dict[str, Any], key: str) -> _Said:
    role_key = "role" if "role" in message else "from"
    name = message[role_key]
    if not isinstance(name, str) or name not in _ROLES:
        raise document.broken(f"{key}.{role_key}", name, f"one of {', '.join(_ROLES)}")
    role = _ROLES[name]
    unread = next((one for one in _UNREAD if message.get(one) and not (one == "images" and role == "user")), None)
    if unread is not None:
        raise UsageError(
            f"{document.name}: `{key}.{unread}` holds what capvec does not read; expected all that was said in the "
            f"message's content and calls"
        )
    calls = [*read_calls(document, message.get("tool_calls"), f"{key}.tool_calls")]
    if legacy := message.get("function_call"):
        calls += read_calls(document, [legacy], f"{key}.function_call")
    text, among = _spoken(document, message, key, role, silent=role == "assistant" and bool(calls))
    if role == "assistant":
        text = without_thought(text)
    if name == "function_call" and isinstance(call := arguments_of(text), dict) and _is_call(call):
        text, calls = "", [*read_calls(document, [call], key)]
    said = with_calls(text, [*among, *calls])
    check_read(document, message, key, _MESSAGE, said, calls=bool(among or calls))
    return _Said(role, said, is_item=message.get("type") == "message")


def _spoken(
    document: Document, message: dict[str, Any], key: str, role: str, *, silent: bool
) -> tuple[str, list[tuple[Any, Any]]]:
    """The text of a message and the calls among its parts. A message that is `silent` needs no content."""
    written = [one for one in _CONTENTS if isinstance(message.get(one), str | list) and message[one]]
    said = [_content(document, message[one], f"{key}.{one}", role) for one in written]
    for other, content in zip(written[1:], said[1:], strict=False):
        if content != said[0]:
            raise UsageError(
                f"{document.name}: `{key}` has one content under `{written[0]}` and another under `{other}`; expected "
                "one of them"
            )
    refusal = document.optional(message.get("refusal"), f"{key}.refusal", str) or ""
    if not written and not refusal:
        one = next((one for one in _CONTENTS if message.get(one) is not None), _CONTENTS[0])
        # OpenAI's content is null if the reply consists of calls only, and if a tool gave nothing.
        if message.get(one) is not None or not (one in message or silent):
            _content(document, message.get(one), f"{key}.{one}", role)
    text, calls = said[0] if said else ("", [])
    images = document.optional(message.get("images"), f"{key}.images", list) or []
    further = ["" if refusal == text else refusal, *("[image]" for _ in images)]
    return "\n".join(part for part in (text, *further) if part), calls


def _content(document: Document, content: Any, key: str, role: str) -> tuple[str, list[tuple[Any, Any]]]:
    """The text of a content, and the calls among its parts."""
    if isinstance(content, str):
        return content, []
    texts: list[str] = []
    calls: list[tuple[Any, Any]] = []
    for index, part in enumerate(document.typed(content, key, list)):
        where = f"{key}[{index}]"
        if isinstance(part, str):
            texts.append(part)
            continue
        kind = _kind(document.typed(part, where, dict))
        if kind in _TEXT_PARTS:
            texts.append(_text_of(document, part, where, _TEXT_PARTS[kind]))
            check_read(document, part, where, ("type", _TEXT_PARTS[kind]), texts[-1])
        elif kind in _IMAGE_PARTS:
            texts.append("[image]")
        elif kind == "tool_use" and role == "assistant" and "input" in part:
            calls.append((document.typed(part.get("name"), f"{where}.name", str), part["input"]))
            check_read(document, part, where, ("type", "name", "input"))
        elif kind == "tool_result" and role == "user":
            texts.append(_output(document, part.get("content"), f"{where}.content"))
            check_read(document, part, where, ("type", "content"), texts[-1])
        elif kind not in _THOUGHTS:
            raise _unknown(document, where, kind, f"text, an image, a tool's call or its result (role {role})")
    return "\n".join(texts), calls


def _text_of(document: Document, part: dict[str, Any], key: str, inner: str) -> str:
    """The text of a part, which may be null, but not under another key."""
    if inner not in part:
        raise document.broken(f"{key}.{inner}", None, "text")
    return document.optional(part[inner], f"{key}.{inner}", str) or ""


def _is_call(value: dict[str, Any]) -> bool:
    """Whether an object is a call and nothing else."""
    return "name" in value and len(value) == 2 and any(one in value for one in _ARGUMENTS)


def _called(document: Document, item: dict[str, Any], key: str) -> Iterator[_Said]:
    name_key, arguments_key = _CALL_ITEMS[item["type"]]
    name = document.typed(item.get(name_key), f"{key}.{name_key}", str) if name_key else item["type"][: -len("_call")]
    # What a custom tool is given is text of any kind, and stays as it is.
    one, several = item.get(arguments_key), item.get(f"{arguments_key}s")
    if one and several:
        raise document.broken(f"{key}.{arguments_key}s", several, f"nothing beside `{arguments_key}`")
    written = one or several or one
    if written is None and item["type"] != "web_search_call":  # older responses do not say what was searched
        raise document.broken(f"{key}.{arguments_key}", None, "what the tool was called with")
    if item["type"] == "web_search_call" and (found := item.get("results")):
        raise document.broken(f"{key}.results", found, "nothing: capvec does not read what a search found")
    check_read(document, item, key, ("type", name_key, arguments_key, f"{arguments_key}s", "output", "error"))
    arguments = written if arguments_key == "input" else arguments_of(written)
    yield _Said("assistant", with_calls("", [(name, arguments)]), is_item=True)
    for answer in ("output", "error") if item["type"] == "mcp_call" else ():
        if (given := item.get(answer)) is not None:
            yield _Said("user", _output(document, given, f"{key}.{answer}"), is_item=True)


def _output(document: Document, output: Any, key: str) -> str:
    """The text of what a tool gave: text, parts, one part, a shell's streams, or nothing."""
    if output is None:
        return ""
    parts = [output] if isinstance(output, dict) else output
    if isinstance(parts, list) and parts and all(isinstance(part, dict) and "stdout" in part for part in parts):
        streams = [(part.get("stdout"), part.get("stderr"), _outcome(part.get("outcome"))) for part in parts]
        return "\n".join(str(stream) for command in streams for stream in command if stream)
    return read_content(document, parts, key)


def _outcome(outcome: Any) -> str:
    """How a command of a shell ended, which the item tells the model."""
    if not isinstance(outcome, dict):
        return ""
    if outcome.get("type") == "timeout":
        return "[timeout]"
    return "" if outcome.get("exit_code") is None else f"[exit code {outcome['exit_code']}]"


def _kind(entry: dict[str, Any]) -> str:
    """The type of an entry or a part; nothing if it has none."""
    return str(entry.get("type") or "")


def _unknown(document: Document, key: str, kind: str, expected: str) -> UsageError:
    return UsageError(
        f"{document.name}: `{key}` has the type {kind!r}, which capvec does not read; expected {expected}"
    )
