"""A conversation as the model's chat template writes it: its tokens, and which of them the assistant said."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from capvec.errors import UsageError
from capvec.records import Message

_THOUGHT = re.compile(r"(</?think>)")
"""What templates look for in a reply, to leave out the thoughts of earlier turns."""


@dataclass(frozen=True)
class Rendered:
    """The tokens of a conversation."""

    ids: tuple[int, ...]
    assistant: tuple[bool, ...]
    """Of each token, whether it holds a part of what an assistant message says: of its content, without white space
    around it, and not of the template's own words. Examples at the start of a conversation are assistant messages."""


def render_ids(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> list[int]:
    """Token ids of a conversation in the model's chat template, ending in a generation prompt if `prompt`."""
    return [int(token) for token in _apply(tokenizer, messages, prompt=prompt, tokenize=True)]


def render_marked(tokenizer: Any, messages: Sequence[Message], *, prompt: bool) -> Rendered:
    """The same token ids as `render_ids`, and which of them are the assistant's.

    Templates strip what is said, put thoughts elsewhere or leave them out, so what the assistant said is not looked for
    in the rendered text. It is rendered a second time with a placeholder for each thing that was said; where a
    placeholder comes out, there it stands. Putting the words back for the placeholders must give the rendered text.

    Raises:
        UsageError: the template rewrites what the assistant said, or the tokenizer cannot tell which characters a token
            stands for.
    """
    text = _apply(tokenizer, messages, prompt=prompt, tokenize=False)
    spans = _assistant_spans(tokenizer, messages, text, prompt=prompt)
    if not getattr(tokenizer, "is_fast", False):
        raise UsageError(f"{type(tokenizer).__name__} does not say which characters a token stands for (no offsets)")
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    ids = tuple(int(token) for token in coded["input_ids"])
    if list(ids) != render_ids(tokenizer, messages, prompt=prompt):
        raise UsageError(
            f"{type(tokenizer).__name__} makes other tokens of a rendered conversation than of the conversation: which "
            "of them are the assistant's is not known"
        )
    return Rendered(ids, tuple(overlaps(coded["offset_mapping"], spans)))


def _apply(tokenizer: Any, messages: Sequence[Message], *, prompt: bool, tokenize: bool) -> Any:
    # Templates without a thinking mode ignore the flag; with one, a short reply must not be all thought.
    return tokenizer.apply_chat_template(
        [dict(message) for message in messages],
        add_generation_prompt=prompt,
        tokenize=tokenize,
        return_dict=False,
        enable_thinking=False,
    )


def _assistant_spans(tokenizer: Any, messages: Sequence[Message], text: str, *, prompt: bool) -> list[tuple[int, int]]:
    """Where in the rendered text the assistant's words are, `(start, end)` in characters, in order."""
    secret = hashlib.sha256(repr(messages).encode()).hexdigest()[:16]  # a text cannot hold a digest of itself
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
            "the model's chat template rewrites what the assistant said, so its tokens cannot be told from the others; "
            "the assistant's messages begin with "
            + ", ".join(repr(message["content"][:40]) for message in messages if message["role"] == "assistant")
        )
    ends = [0]
    for piece in pieces:
        ends.append(ends[-1] + len(piece))
    return [(ends[index], ends[index + 1]) for index in range(1, len(pieces), 2)]


def overlaps(offsets: Sequence[tuple[int, int]], spans: Sequence[tuple[int, int]]) -> Iterator[bool]:
    """Of each token, whether its characters overlap one of the spans. Both are in order."""
    waiting, before = list(reversed(spans)), 0
    for given, end in offsets:
        # Tokenizers that trim offsets give a token of white space none: it stands after the token before it.
        start = given if given < end else min(before, end)
        before = end
        while waiting and waiting[-1][1] <= start:
            waiting.pop()
        yield bool(waiting) and waiting[-1][0] < end
