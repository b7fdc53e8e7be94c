"""Rendering a conversation with the model's chat template, and marking the assistant's tokens."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial

from capvec.engines.chat_template import SAID, ChatTemplate
from capvec.errors import UsageError
from capvec.records import Message, Thinking
from capvec.thoughts import KNOWN_TAGS

_TAG = re.compile("(" + "|".join(re.escape(tag) for tags in KNOWN_TAGS for tag in (tags.open, tags.close)) + ")")
"""Tags by which templates remove the thoughts of earlier turns."""


@dataclass(frozen=True)
class Rendered:
    """The tokens of a conversation."""

    ids: tuple[int, ...]
    assistant: tuple[bool, ...]
    """Of each token, whether it holds part of an assistant message's content, without white space around it, the tags
    of thoughts and the template's own words. Worked examples at the start of a conversation are assistant messages."""


def render_marked(
    template: ChatTemplate, messages: Sequence[Message], *, prompt: bool, thinking: Thinking | None = None
) -> Rendered:
    """The same token ids as `ChatTemplate.ids`, and which of them are the assistant's, thoughts included.

    Templates strip replies and move or remove thoughts, so searching the rendered text for a reply is not reliable.
    Instead the conversation is rendered again with placeholders for the assistant's words, whose places are then known.
    Replacing the placeholders by the words must give the rendered text.

    Raises:
        UsageError: the template rewrites the assistant's words, or the tokenizer has no character offsets.
    """
    render = partial(template.text, prompt=prompt, thinking=thinking)
    messages = template.accepted(messages)
    tokenizer, text = template.tokenizer, render(messages)
    spans = _assistant_spans(render, messages, text)
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"{type(tokenizer).__name__} has no character offsets to find the assistant's tokens by")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = tuple(int(token) for token in coded["input_ids"])
    if list(ids) != template.ids(messages, prompt=prompt, thinking=thinking):
        raise UsageError(
            f"{type(tokenizer).__name__} tokenizes a rendered conversation differently than the conversation, so the "
            "assistant's tokens are not known"
        )
    return Rendered(ids, tuple(overlaps(coded["offset_mapping"], spans)))


def with_marks(template: ChatTemplate) -> ChatTemplate:
    """The template with what is known of the assistant's tokens, found out with a small conversation."""
    talk = [{"role": "user", "content": "List the files."}, {"role": "assistant", "content": "ls -l"}]
    try:
        render_marked(template, talk, prompt=False)
    except UsageError as error:
        return replace(template, info=replace(template.info, unmarked=str(error)))
    return template


def _assistant_spans(
    render: Callable[[Sequence[Message]], str], messages: Sequence[Message], text: str
) -> list[tuple[int, int]]:
    """The assistant's words in the rendered text, as `(start, end)` in characters, in order."""
    secret = hashlib.sha256(repr(messages).encode()).hexdigest()[:16]  # no text holds its own digest
    said: list[str] = []

    def hide(part: str) -> str:
        words = part.strip()
        if not words or _TAG.fullmatch(part):
            return part
        said.append(words)
        return part.replace(words, f"[{secret}.{len(said) - 1}]")

    hidden = [
        dict(message) | {key: "".join(map(hide, _TAG.split(message[key]))) for key in SAID if key in message}
        if message["role"] == "assistant"
        else dict(message)
        for message in messages
    ]
    pieces = re.split(rf"\[{secret}\.(\d+)\]", render(hidden))
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
