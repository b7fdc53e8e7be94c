"""Turns one chat into a trace.

A chat is a list of messages, or an object that has one; `messages.py` says which messages are read. The reward and any
other field of `fields.py` stand beside the list, and so may a system prompt and the last reply.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from capvec.errors import UsageError
from capvec.parsing import parse_json
from capvec.records import Trace
from capvec.traces.conversation import acceptable
from capvec.traces.counts import by_protocol
from capvec.traces.document import Document
from capvec.traces.fields import TRACE_FIELDS, UNKNOWN, look_up
from capvec.traces.format import Format
from capvec.traces.messages import looks_like_messages, only_choice, read_messages

_COMPLETIONS = ("response", "completion", "choices", "responses", "completions", "candidates", "generations")
"""Keys beside the messages of a request under which its log may have the reply."""


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
    _check_only(document, chat, key, talk, named)
    messages = read_messages(document, document.typed(talk, key, list), key)
    messages = read_messages(document, _system(chat, messages), "system") + messages
    reply = _completion(document, chat, answered=bool(messages) and messages[-1]["role"] == "assistant")
    messages += [] if reply == messages[-1:] else reply
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
    return key, _parsed(talk)


def _parsed(talk: Any) -> Any:
    try:
        return parse_json(talk, whole=True) if isinstance(talk, str) else talk
    except ValueError:
        return talk


def _check_only(document: Document, chat: Mapping[str, Any], key: str, talk: Any, named: Mapping[str, str]) -> None:
    """Check that no other known key has another conversation, unless the user named the one to read."""
    for other in TRACE_FIELDS["messages"] if "messages" not in named else ():
        beside = _parsed(chat.get(other))
        if looks_like_messages(beside) and beside != talk:
            raise UsageError(
                f"{document.name}: `{key}` and `{other}` have conversations that differ; choose one with "
                f"--trace-fields messages=NAME"
            )


def _system(chat: Mapping[str, Any], messages: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """The system prompt, where it stands beside messages that have none, as in Anthropic's requests."""
    prompt = chat.get("system") or chat.get("system_prompt")
    given = prompt and isinstance(prompt, str | list) and [one["role"] for one in messages[:1]] != ["system"]
    return [{"role": "system", "content": prompt}] if given else []


def _completion(document: Document, chat: Mapping[str, Any], *, answered: bool) -> list[dict[str, str]]:
    """The reply to the messages, where the log of a request has it beside them.

    Where they are `answered`, a text or an unknown form beside them is no reply, but something about it.

    Raises:
        UsageError: there are several, or what follows the messages is not understood; the message names the key.
    """
    key = next((key for key in _COMPLETIONS if chat.get(key)), "")
    given = chat.get(key)
    if key == "choices":
        key, given = "", {"choices": given} if _are_choices(given) else None
    entries = _replies(document, given, f"{key}.choices".lstrip("."))
    if entries is None and isinstance(given, str) and not answered:
        entries = [{"role": "assistant", "content": given}]
    if entries is None and given and not answered:
        raise document.broken(key, given, "one reply, in the form of OpenAI or Anthropic")
    return read_messages(document, entries or [], key or "choices")


def _replies(document: Document, given: Any, choices: str) -> list[Any] | None:
    """The entries of a completion in one of the forms in which APIs give it; None if it is in none."""
    if isinstance(given, dict) and "choices" in given:
        return [only_choice(document, given["choices"], choices)]
    if isinstance(given, dict) and ("role" in given or given.get("object") == "response"):
        return [given]
    if isinstance(given, dict) and isinstance(given.get("message"), dict):
        return [given["message"]]  # of Ollama
    return given if looks_like_messages(given) else None


def _are_choices(value: Any) -> bool:
    """Whether it is a list of OpenAI's choices, and not what a question lets one choose from."""
    return isinstance(value, list) and all(isinstance(one, dict) and "message" in one for one in value)


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
