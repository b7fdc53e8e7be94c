"""Turns one chat into a trace.

A chat is a list of messages, or an object that has one; `messages.py` says which messages are read. The reward and any
other field of `fields.py` stand beside the list.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.counts import by_protocol
from capvec.traces.document import Document
from capvec.traces.fields import TRACE_FIELDS, UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import looks_like_messages, read_messages


def looks_like_chat(value: Any, named: Mapping[str, str]) -> bool:
    """Whether a JSON value is meant to be a chat: it is a list of messages, or has a list of them."""
    if isinstance(value, list):
        return looks_like_messages(value)
    return isinstance(value, dict) and isinstance(_talk(value, named)[1], list)


def chat_trace(document: Document, named: Mapping[str, str]) -> Trace:
    """The trace of a chat.

    A chat without an id is named after its file and line. Unless the source counts them, the steps are all messages of
    the assistant, including worked examples, which cannot be recognised. A count of parse_fail or no_cmd that the
    source lacks comes from the parser of the protocol that it names.

    Raises:
        UsageError: a key is missing or wrong, or a part is not understood; the message names it.
    """
    chat = {"messages": document.value} if looks_like_messages(document.value) else document.value
    if not isinstance(chat, dict):
        raise UsageError(f"{document.name}: is {type(chat).__name__}, expected an object with messages")

    def found(field: str) -> tuple[Any, str]:
        name, value = look_up(chat, field, named)
        return value, name

    key, talk = _talk(chat, named)
    if talk is None:
        raise UsageError(
            f"{document.name}: neither an ATIF trajectory (schema_version and steps), nor a run in another format that "
            f"capvec reads, nor a chat (an object with {', '.join(TRACE_FIELDS['messages'])}); use "
            f"--trace-fields messages=NAME for another name"
        )
    messages = read_messages(document, [*_system(chat), *document.typed(talk, key, list), *_completion(chat)], key)
    replies = [message["content"] for message in messages if message["role"] == "assistant"]
    steps, task, model, name = (found(field)[0] for field in ("steps", "task", "model", "id"))
    counts = by_protocol(document.optional(*found("protocol"), str), replies).known_first(
        document.count(*found("parse_fail")), document.count(*found("no_cmd"))
    )
    return Trace(
        id=str(name) if isinstance(name, str | int) else document.name.removeprefix(f"{document.path.parent}/"),
        task=_label(document, task, found("task")[1]),
        model=_label(document, model, found("model")[1]),
        messages=acceptable(messages),
        reward=document.reward(*found("reward")),
        steps=len(replies) if steps is None else document.typed(steps, found("steps")[1], int),
        parse_fail=counts.parse_fail,
        no_cmd=counts.no_cmd,
        uncounted=counts.why,
    )


def _talk(chat: Mapping[str, Any], named: Mapping[str, str]) -> tuple[str, Any]:
    """The key of the messages, and the messages, which published data sets may have as JSON in a string."""
    key, talk = look_up(chat, "messages", named)
    try:
        return key, parse_json(talk) if isinstance(talk, str) else talk
    except ValueError:
        return key, talk


def _system(chat: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The system prompt, which Anthropic's requests have beside their messages."""
    prompt = chat.get("system")
    return [{"role": "system", "content": prompt}] if prompt and isinstance(prompt, str | list) else []


def _completion(chat: Mapping[str, Any]) -> list[Any]:
    """The reply to the messages, where the log of one request has it beside them, in OpenAI's or Anthropic's form."""
    response = chat.get("response")
    if not isinstance(response, dict):
        return []
    choices = response.get("choices")
    if isinstance(choices, list) and choices and isinstance(choices[0], dict):
        return [choices[0].get("message")]
    return [response] if "role" in response or response.get("object") == "response" else []


def _label(document: Document, value: Any, key: str) -> str:
    """The name of a task or a model, which may be a number."""
    if value is None:
        return UNKNOWN
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    return document.typed(value, key, str)


def _read(document: Document, named: Mapping[str, str]) -> Iterator[Trace]:
    yield chat_trace(document, named)


FORMAT = Format("chat", looks_like_chat, _read)
