"""The JSON of answers to chats and to completions, whole and in pieces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import Drawn
from capvec.engines.growing_text import GrowingText
from capvec.engines.tools import Call
from capvec.records import Reply
from capvec.thoughts import ThoughtTags

_NO_PROBABILITY = -9999.0
"""Log-probability of a token that cannot be drawn: JSON has no infinity."""


@dataclass(frozen=True)
class Spoken:
    """What a reply says, or a piece of it."""

    text: str
    """Of the answer, without thought and calls."""
    thought: str = ""
    calls: tuple[Call, ...] = ()
    drawn: tuple[Drawn, ...] = ()
    """Its tokens, where their probabilities are asked for."""
    unsaid: int = 0
    """Characters at the beginning of the tokens that are not in the text."""

    def __bool__(self) -> bool:
        return bool(self.text or self.thought or self.calls or self.drawn)


class Form(Protocol):
    """The form of the answers of one endpoint."""

    prefix: str
    """Of ids."""
    whole: str
    """`object` of an answer."""
    piece: str
    """`object` of a piece of a stream."""

    def choice(self, index: int, spoken: Spoken, finish: str, tags: ThoughtTags | None) -> dict[str, Any]:
        """A choice of an answer; `tags` are those of the model's thoughts where its text holds one."""
        ...

    def delta(self, index: int, spoken: Spoken, finish: str | None, *, first: bool) -> dict[str, Any]:
        """A piece of a choice."""
        ...


class ChatForm:
    """The answers of `/v1/chat/completions`."""

    prefix, whole, piece = "chatcmpl", "chat.completion", "chat.completion.chunk"

    def __init__(self, template: ChatTemplate, *, logprobs: bool) -> None:
        self._template, self._logprobs = template, logprobs

    def choice(self, index: int, spoken: Spoken, finish: str, tags: ThoughtTags | None) -> dict[str, Any]:
        message: dict[str, Any] = {
            "role": "assistant",
            "content": spoken.text if spoken.text.strip() or not spoken.calls else None,
            "reasoning_content": spoken.thought or None,
        }
        if spoken.calls:
            message["tool_calls"] = [call.to_json() for call in spoken.calls]
        return {
            "index": index,
            "message": message,
            "logprobs": self._told(spoken.drawn),
            "thought_tags": tags.to_json() if tags is not None else None,
            "finish_reason": finish,
        }

    def delta(self, index: int, spoken: Spoken, finish: str | None, *, first: bool) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": ""} if first else {}
        if spoken.thought:
            delta["reasoning_content"] = spoken.thought
        if spoken.text:
            delta["content"] = spoken.text
        if spoken.calls:
            delta["tool_calls"] = [{"index": place, **call.to_json()} for place, call in enumerate(spoken.calls)]
        told = self._told(spoken.drawn) if spoken.drawn else None
        return {"index": index, "delta": delta, "logprobs": told, "finish_reason": finish}

    def _told(self, drawn: Sequence[Drawn]) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        return {
            "content": [
                self._token(one.token, one.logprob) | {"top_logprobs": [self._token(*pair) for pair in one.top]}
                for one in drawn
            ],
            "refusal": None,
        }

    def _token(self, token: int, logprob: float | None) -> dict[str, Any]:
        text = self._template.decode([token])
        return {
            "token": text,
            "logprob": finite(logprob),
            "bytes": list(text.encode()) if "\ufffd" not in text else None,
        }


class TextForm:
    """The answers of `/v1/completions`."""

    prefix, whole, piece = "cmpl", "text_completion", "text_completion"

    def __init__(self, template: ChatTemplate, *, logprobs: bool) -> None:
        self._template, self._logprobs = template, logprobs
        self._told_of: dict[int, GrowingText] = {}
        """Choice → the text of its tokens that were sent."""

    def choice(
        self, index: int, spoken: Spoken, finish: str | None, _tags: ThoughtTags | None = None
    ) -> dict[str, Any]:
        told = self._told(spoken, self._told_of.setdefault(index, GrowingText(self._template)))
        return {"index": index, "text": spoken.text, "logprobs": told, "finish_reason": finish}

    def delta(self, index: int, spoken: Spoken, finish: str | None, *, first: bool) -> dict[str, Any]:  # noqa: ARG002
        return self.choice(index, spoken, finish)

    def _told(self, spoken: Spoken, growing: GrowingText) -> dict[str, Any] | None:
        if not self._logprobs:
            return None
        offsets = []
        for one in spoken.drawn:
            offsets.append(max(0, len(growing.text) - spoken.unsaid))  # of a part of a character, where that begins
            growing.take([one.token])
        return {
            "tokens": [self._template.decode([one.token]) for one in spoken.drawn],
            "token_logprobs": [None if one.logprob is None else finite(one.logprob) for one in spoken.drawn],
            "top_logprobs": [self._top(one) for one in spoken.drawn],
            "text_offset": offsets,
        }

    def _top(self, drawn: Drawn) -> dict[str, float] | None:
        """The likely tokens; of those with the same text, such as parts of characters, the likeliest stands.

        None for the first token of a prompt, which follows nothing.
        """
        if drawn.logprob is None:
            return None
        return {self._template.decode([token]): finite(value) for token, value in reversed(drawn.top)}


def finite(logprob: float | None) -> float:
    """A log-probability that JSON can hold."""
    return _NO_PROBABILITY if logprob is None else max(logprob, _NO_PROBABILITY)


def proof_of(reply: Reply) -> dict[str, Any]:
    """What a choice says of its steers."""
    return {
        "steering_receipts": [receipt.to_json() for receipt in reply.receipts],
        "steering_isolation": reply.isolation.to_json() if reply.isolation is not None else None,
        "steering_of_cached": [steer.to_json() for steer in reply.cached_under],
    }


def usage_of(replies: Sequence[Reply], prompts: Sequence[Reply]) -> dict[str, Any]:
    """The tokens of all replies, and of each prompt once.

    Args:
        replies: all.
        prompts: the first reply to each prompt.
    """
    prompt, completion = sum(one.prompt_tokens for one in prompts), sum(one.completion_tokens for one in replies)
    return {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": sum(one.cached_tokens for one in prompts)},
    }
