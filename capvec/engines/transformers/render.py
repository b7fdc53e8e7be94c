"""Rendering a conversation with the model's chat template, and marking the assistant's tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from capvec.errors import UsageError
from capvec.records import Message

_THOUGHT = re.compile(r"(</?think>)")
"""Tags by which templates remove the thoughts of earlier turns."""


@dataclass(frozen=True)
class Rendered:
    """The tokens of a conversation."""

    ids: tuple[int, ...]
    assistant: tuple[bool, ...]
    """Of each token, whether it holds part of an assistant message's content, without white space around it and without
    the template's own words. Worked examples at the start of a conversation are assistant messages."""


def render_ids(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> list[int]:
    """Token ids of a conversation in the model's chat template, ending in a generation prompt if `prompt`."""
    return [int(token) for token in _apply(tokenizer, messages, prompt=prompt, tokenize=True)]


def render_marked(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> Rendered:
    """The same token ids as `render_ids`, and which of them are the assistant's.

    Templates strip replies and move or remove thoughts, so searching the rendered text for a reply is not reliable.
    Instead the conversation is rendered again with placeholders for the assistant's words, whose places are then known.
    Replacing the placeholders by the words must give the rendered text.

    Raises:
        UsageError: the template rewrites the assistant's words, or the tokenizer has no character offsets.
    """
    text = _apply(tokenizer, messages, prompt=prompt, tokenize=False)
    spans = _assistant_spans(tokenizer, messages, text, prompt=prompt)
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"{type(tokenizer).__name__} has no character offsets to find the assistant's tokens by")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = tuple(int(token) for token in coded["input_ids"])
    if list(ids) != render_ids(tokenizer, messages, prompt=prompt):
        raise UsageError(
            f"{type(tokenizer).__name__} tokenizes a rendered conversation differently than the conversation, so the "
            "assistant's tokens are not known"
        )
    return Rendered(ids, tuple(overlaps(coded["offset_mapping"], spans)))


def _apply(tokenizer: Any, messages: Sequence[Message], *, prompt: bool, tokenize: bool) -> Any:
    # Templates without a thinking mode ignore the flag; with one, thoughts could fill a short reply.
    return tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=prompt,
        tokenize=tokenize,
        return_dict=False,
        enable_thinking=False,
    )


def _assistant_spans(tokenizer: Any, messages: Sequence[Message], text: str, *, prompt: bool) -> list[tuple[int, int]]:
    """The assistant's words in the rendered text, as `(start, end)` in characters, in order."""
    secret = hashlib.sha256(repr(messages).encode()).hexdigest()[:16]  # no text holds its own digest
    said: list[str] = []

    def hide(part: str) -> str:
        words = part.strip()
        if not words or _THOUGHT.fullmatch(part):
            return part
        said.append(words)
        return part.replace(words, f"[{secret}.{len(said) - 1}]")

    hidden = [
        dict(message) | {"content": "".join(hide(part) for part in _THOUGHT.split(message["content"]))}
        if message["role"] == "assistant"
        else dict(message)
        for message in messages
    ]
    pieces = re.split(rf"\[{secret}\.(\d+)\]", _apply(tokenizer, hidden, prompt=prompt, tokenize=False))
    pieces[1::2] = [said[int(number)] for number in pieces[1::2]]
    if "".join(pieces) != text:
        raise UsageError(
            "the model's chat template rewrites what the assistant said, so the assistant's tokens are not known; "
            "the assistant's messages begin with "
            + ", ".join(repr(message["content"][:40]) for message in messages if message["role"] == "assistant")
        )
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return [(ends[index], ends[index + 1]) for index in range(1, len(pieces), 2)]


def overlaps(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> Iterator[bool]:
    """For each token, whether its characters overlap a span; both arguments are in order."""
    waiting, before = list(reversed(spans)), 0
    for given, end in offsets:
        # Tokenizers that trim offsets give white space an empty one; it follows the token before it.
        start = given if given < end else min(before, end)
        before = end
        while waiting and waiting[-1][1] <= start:
            waiting.pop()
        yield bool(waiting) and waiting[-1][0] < end
