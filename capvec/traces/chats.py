"""Turns one chat into a trace.

A chat is a list of messages, or an object that has one; `messages.py` says which messages are read. The reward and any
other field of `fields.py` stand beside the list, and so may a system prompt and the last reply.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
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
from capvec.traces.unread import may_be_reply, may_be_talk

_COMPLETIONS = ("response", "completion", "choices", "responses", "completions", "candidates", "generations")
"""Keys beside the messages of a request under which its log may have the reply."""
_SESSIONS = ("session_id", "sessionId", "conversation_id", "thread_id", "trace_id", "trial_name", "trajectory_id")
"""Keys of a message that say of which conversation it is."""
_PLACEHOLDER = re.compile(r"\{+[^{}\n]*+\}+")


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
    chat = document.value
    if looks_like_messages(chat):
        chat = {
            "messages": chat,
            **_alike(document, chat, (*_SESSIONS, *TRACE_FIELDS["task"], *TRACE_FIELDS["reward"])),
        }
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
    _alike(document, talk, _SESSIONS)
    messages = _system(document, chat, messages) + messages
    reply = _completion(document, chat, answered=bool(messages) and messages[-1]["role"] == "assistant")
    messages += [] if reply == messages[-1:] else reply
    _check_ended(document, chat, messages, {key, *named.values()})
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


def _alike(document: Document, talk: Sequence[Mapping[str, Any]], fields: Iterable[str]) -> dict[str, Any]:
    """The fields that all messages have, and have alike.

    Raises:
        UsageError: some have one that differs, so that they are of several conversations.
    """
    alike: dict[str, Any] = {}
    for field in fields:
        values = [entry[field] for entry in talk if entry.get(field) is not None]
        other = next((value for value in values if value != values[0]), None)
        if other is not None:
            raise UsageError(
                f"{document.name}: has messages whose `{field}` is {values[0]!a} and others whose `{field}` is "
                f"{other!a}; expected one conversation, or an object with messages for each"
            )
        if len(values) == len(talk):
            alike[field] = values[0]
    return alike


def _check_only(document: Document, chat: Mapping[str, Any], key: str, talk: Any, named: Mapping[str, str]) -> None:
    """Check that nothing beside the conversation is another one, unless the user named the one to read."""
    for other, value in chat.items() if "messages" not in named else ():
        if other in _COMPLETIONS or not may_be_talk(other):
            continue
        beside = _parsed(value) if other in TRACE_FIELDS["messages"] else value
        for one in (beside, *(beside.values() if isinstance(beside, dict) else ())):
            if looks_like_messages(one) and not _is_part(one, talk):
                raise UsageError(
                    f"{document.name}: `{key}` and `{other}` have conversations that differ; choose one with "
                    f"--trace-fields messages=NAME"
                )


def _is_part(messages: Sequence[Any], talk: Any) -> bool:
    """Whether a conversation has the messages, one after the other."""
    count = len(messages)
    return isinstance(talk, list) and any(talk[at : at + count] == messages for at in range(len(talk) - count + 1))


def _check_ended(
    document: Document, chat: Mapping[str, Any], messages: Sequence[dict[str, str]], read: Collection[str]
) -> None:
    """Check that the reply to a conversation that ends with the user is not somewhere beside it."""
    if not messages or messages[-1]["role"] == "assistant":
        return
    known = {*read, *(name for names in TRACE_FIELDS.values() for name in names)}
    for key, value in chat.items():
        if key not in known and may_be_reply(key, value):
            raise UsageError(
                f"{document.name}: the conversation ends with the user, and `{key}` may hold the reply; expected it "
                f"as the last message, or under `response`"
            )


def _system(document: Document, chat: Mapping[str, Any], messages: Sequence[dict[str, str]]) -> list[dict[str, str]]:
    """The system prompt, where it stands beside messages that have none, as in Anthropic's requests.

    Raises:
        UsageError: there are two that differ; the message names their keys.
    """
    own = messages[0]["content"] if messages and messages[0]["role"] == "system" else None
    said, place = own, "the first message"
    for key in ("system", "system_prompt"):
        if not (prompt := chat.get(key)) or not isinstance(prompt, str | list):
            continue
        text = read_messages(document, [{"role": "system", "content": prompt}], key)[0]["content"]
        if said is None:
            said, place = text, f"`{key}`"
        elif not _fills_in(text, said):
            raise UsageError(
                f"{document.name}: {place} and `{key}` have system prompts that differ; expected one of them"
            )
    return [{"role": "system", "content": said}] if own is None and said is not None else []


def _fills_in(template: str, text: str) -> bool:
    """Whether a text is a template whose placeholders are filled in, or has it as a part."""
    at = 0
    for part in _PLACEHOLDER.split(template.strip()):
        if (found := text.find(part, at)) < 0:
            return False
        at = found + len(part)
    return True


def _completion(document: Document, chat: Mapping[str, Any], *, answered: bool) -> list[dict[str, str]]:
    """The reply to the messages, where the log of a request has it beside them.

    Where they are `answered`, a text or an unknown form beside them is no reply, but something about it.

    Raises:
        UsageError: there are several, or what follows the messages is not understood; the message names the key.
    """
    replies = {key: _reply(document, key, chat[key], answered=answered) for key in _COMPLETIONS if chat.get(key)}
    given = {key: reply for key, reply in replies.items() if reply}
    first = next(iter(given), "")
    for key, reply in given.items():
        if reply != given[first]:
            raise UsageError(f"{document.name}: `{first}` and `{key}` have replies that differ; expected one of them")
    return given.get(first, [])


def _reply(document: Document, key: str, given: Any, *, answered: bool) -> list[dict[str, str]]:
    """The reply under one key; nothing where it has none."""
    where = f"{key}.choices"
    if key == "choices":
        where, given = key, {"choices": given} if _are_choices(given) else None
    entries = _replies(document, given, where)
    if entries is None and isinstance(given, str) and not answered:
        entries = [{"role": "assistant", "content": given}]
    if entries is None and given and not answered:
        raise document.broken(key, given, "one reply, in the form of OpenAI or Anthropic")
    if len(entries or []) > 1 and all(
        entry.get("role") == "assistant" and "type" not in entry for entry in entries or []
    ):
        raise document.broken(key, given, "one reply, and not several from which to choose")
    return read_messages(document, entries or [], key)


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
