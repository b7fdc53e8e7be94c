"""A conversation whose residuals are to be captured: how it is rendered, and which of its tokens are pooled."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.render import render_marked
from capvec.errors import UsageError
from capvec.pooling import mean_last_of
from capvec.records import Message

OF_THE_ASSISTANT = ("last-assistant", "mean-assistant")
"""Poolings that use the assistant's tokens."""


@dataclass(frozen=True)
class Prepared:
    """A conversation, ready for the forward pass."""

    ids: tuple[int, ...]
    """The rendered conversation, without what was cut from its left."""
    chosen: tuple[int, ...]
    """Positions in `ids` whose residuals are averaged; at least one."""
    tokens: int
    """Of the rendered conversation, before anything was cut."""
    truncated: int
    """Tokens cut from its left to fit the model's context."""
    truncated_assistant: int
    """How many of these are the assistant's; 0 for a pooling that does not use the assistant's tokens."""


def prepare(template: ChatTemplate, messages: Sequence[Message], pooling: str, name: str, *, most: int) -> Prepared:
    """Render a conversation and choose the tokens whose residuals are averaged.

    A conversation that ends with a reply is rendered as it is; any other is rendered with the generation prompt. A
    conversation longer than the context loses tokens on its left. The pooling then chooses among the rest:

    * `last`: the last token, which is the end of the last reply or the token that the next reply is drawn from;
    * `last-assistant`: the assistant's last token, before the template closes the message;
    * `mean-assistant`: all of the assistant's tokens, in every message, those of worked examples included;
    * `mean-last:K`: the last K tokens, or all if there are fewer.

    Args:
        template: of the model.
        messages: the conversation, not empty.
        pooling: one of `capvec.pooling.POOLINGS`, already checked.
        name: what to call the conversation in errors.
        most: tokens that fit the model's context.

    Raises:
        UsageError: the chat template cannot render the conversation, or the pooling uses the assistant's tokens and
            there is none.
    """
    prompt, said = messages[-1]["role"] != "assistant", [False]
    try:
        if pooling in OF_THE_ASSISTANT:
            rendered = render_marked(template, messages, prompt=prompt)
            ids, said = rendered.ids, list(rendered.assistant)
        else:
            ids = tuple(template.ids(messages, prompt=prompt))
    except UsageError as error:
        raise UsageError(f"{name}: {error}; leave it out") from error
    cut = max(0, len(ids) - most)
    spoken = [position for position, mine in enumerate(said[cut:]) if mine]
    if pooling in OF_THE_ASSISTANT and not spoken:
        why = (
            f"all of it is among the {cut} tokens cut to fit the context of {most}"
            if any(said)
            else "no assistant message of it says anything"
        )
        raise UsageError(f"{name}: no assistant token to pool ({pooling}): {why}; leave it out, or use `last`")
    kept = len(ids) - cut
    chosen = {
        "last": [kept - 1],
        "last-assistant": spoken[-1:],
        "mean-assistant": spoken,
    }.get(pooling, range(max(0, kept - (mean_last_of(pooling) or 0)), kept))
    return Prepared(ids[cut:], tuple(chosen), len(ids), cut, sum(said[:cut]))
