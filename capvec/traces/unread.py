"""Finds what a record says that no reader reads.

A reader knows the keys that hold what was said. Of all others, those that are known to be *about* it are left out, and
so is what holds no text. Anything else refuses the file by its key, so that no part of a conversation is lost because
an agent has its own name for it.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from capvec.errors import UsageError
from capvec.traces.document import Document

_THOUGHT = {"reasoning", "thinking", "thought", "thoughts", "think", "encrypted", "signature"}
"""Words of a key that has what a model thought, whatever its other words are."""
_ABOUT = {
    # which one it is, and when it was
    "id", "ids", "uid", "uuid", "hash", "index", "idx", "number", "step", "turn", "type", "kind", "object", "role",
    "name", "source", "sender", "recipient", "author", "user", "agent", "namespace", "session", "conversation",
    "thread", "parent", "task", "instance", "run", "created", "updated", "timestamp", "time", "date", "at", "path",
    "url",
    # how it was made
    "model", "provider", "usage", "cost", "metrics", "logprobs", "probs", "tokens", "status", "state", "reason",
    "finish", "stop", "config", "settings", "environment", "phase", "channel", "format", "version", "mime", "effort",
    "cache", "container", "caller", "fields", "kwargs", "details", "parsed", "approval", "safety", "label", "labels",
    # what others say of it
    "metadata", "meta", "info", "extra", "extras", "tag", "tags", "annotations", "citations", "rating", "ratings",
    "score", "scores", "reward", "rewards", "feedback", "critique", "eval", "verdict", "loss", "weight", "lang",
    "language", "country", "header", "moderation", "toxicity", "internal", "confidence",
}  # fmt: skip
"""Words of a key that is about what was said."""
_SAID = {
    "action", "actions", "answer", "code", "command", "commands", "completion", "content", "message", "observation",
    "output", "outputs", "reply", "response", "result", "results", "stderr", "stdout", "text", "value",
}  # fmt: skip
"""Last words of a key that holds what was said."""
_CALLED = {"action", "actions", "command", "commands"}
"""Keys in which agents write the calls of a message in a form of their own, beside the calls."""
_CALLS = re.compile(r"(invalid_?)?(tool|function)s?_?(call|use|invocation)(s|ed)?", re.IGNORECASE)
_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
_NAME = 8
"""Words of the longest text that may be a name."""


def words(key: str) -> list[str]:
    """The words of a key, in whichever way they are joined."""
    return [word.lower() for word in _WORD.findall(key)]


def holds_text(value: Any) -> bool:
    """Whether a value is text that is not blank, or has one at any depth, other than what the model thought."""
    if isinstance(value, str):
        return bool(value.strip())
    if isinstance(value, dict):
        return any(holds_text(one) and _THOUGHT.isdisjoint(words(key)) for key, one in value.items())
    return isinstance(value, list) and any(map(holds_text, value))


def check_read(
    document: Document,
    entry: Mapping[str, Any],
    key: str,
    read: Collection[str],
    said: str = "",
    *,
    calls: bool = False,
) -> None:
    """Check that the reader of a part of a conversation left nothing out that was said.

    Args:
        document: for the message.
        entry: the part: a message, a call, a content part.
        key: its place in the document.
        read: the keys that were read.
        said: what they say, of which another key may repeat lines.
        calls: whether calls are among it.

    Raises:
        UsageError: another key may hold what was said; the message names it.
    """
    for name, value in entry.items():
        if name in read or not holds_text(value):
            continue
        named = words(name)
        inner = _call_in(value) if _ABOUT & {*named} and not calls else ""
        if inner or _CALLS.fullmatch(name) or _may_be_said(named, value, said, calls=calls):
            raise UsageError(
                f"{document.name}: `{key}.{name}{inner}` holds what capvec does not read, and may have been said; "
                f"expected all of it in the content and the calls that it knows"
            )


def _call_in(value: Any) -> str:
    """Where an object that is about a message has calls, as LangChain's `additional_kwargs`."""
    inner = value if isinstance(value, dict) else {}
    return next((f".{name}" for name, one in inner.items() if _CALLS.fullmatch(name) and holds_text(one)), "")


def _may_be_said(named: Sequence[str], value: Any, said: str, *, calls: bool) -> bool:
    """Whether a value may be a part of what was said, by the words of its key, and beside what else was said."""
    last = named[-1] if named else ""
    if isinstance(value, str):
        whole, inner = (f"\n{said}\n", f"\n{value.strip()}\n") if last not in _CALLED else (said, value.strip())
        if inner in whole:
            return False
    if _THOUGHT & {*named} or (calls and last in _CALLED):
        return False
    if last in _SAID:
        return True
    is_name = isinstance(value, str) and bool(said) and len(value.split()) <= _NAME
    return not (is_name or _ABOUT & {*named})


_GIVEN = {
    "prompt", "prompts", "question", "query", "problem", "instruction", "instructions", "input", "inputs", "context",
    "tools", "functions", "system", "description", "hint", "goal", "category", "domain", "split", "repo", "dataset",
    "base", "commit", "image", "docker", "license", "subset", "topic", "difficulty",
}  # fmt: skip
"""Words of a field that is about the task of a run, or was given to the agent."""
_JUDGED = {
    "expected", "reference", "gold", "golden", "ground", "truth", "target", "solution", "rubric", "patch", "diff",
    "test", "tests", "log", "logs", "error", "errors", "exit", "judge", "grader", "explanation", "report", "rejected",
}  # fmt: skip
"""Words of a field that is about how a run was judged."""
_REPLIES = {
    "answer", "assistant", "bot", "chosen", "completion", "generated", "generation", "message", "messages", "output",
    "outputs", "predicted", "prediction", "reply", "response", "responses",
}  # fmt: skip
"""Words of a field that holds a reply, however short it is."""
_OTHER_TALKS = {"metadata", "meta", "info", "extra", "raw", "critique", "feedback", "examples", "demos", "shots"}
"""Words of a field that may hold another conversation than that of the run."""


def may_be_reply(key: str, value: Any) -> bool:
    """Whether a field beside a conversation may hold the reply to its end."""
    named = words(key)
    if not holds_text(value) or (named[-1:] and named[-1] in _ABOUT) or _JUDGED & {*named}:
        return False
    if _REPLIES & {*named}:
        return True
    if (_GIVEN | _ABOUT) & {*named}:
        return False
    if isinstance(value, str):
        return len(value.split()) > _NAME
    entries = value if isinstance(value, list) else [value]
    return any(isinstance(one, dict) and ("role" in one or "content" in one) for one in entries)


def may_be_talk(key: str) -> bool:
    """Whether messages in a field beside a conversation may be of the same run."""
    return (_OTHER_TALKS | _JUDGED).isdisjoint(words(key))
