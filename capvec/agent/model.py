"""The language model as the agent loop uses it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from capvec.engines.generation import PLAIN, Shaping
from capvec.records import Message, Reply, Thinking
from capvec.steering import Steer


class ChatModel(Protocol):
    """A model that answers a conversation."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str] = (),
        steers: Sequence[Steer] = (),
        thinking: Thinking | None = None,
        shaping: Shaping = PLAIN,
        grammar: str = "",
        continuation: str = "",
    ) -> Reply:
        """Answer `messages` under `steers`.

        Args:
            messages: the conversation so far.
            seed: of the sampler.
            max_tokens: most tokens of the reply.
            temperature: 0 takes the most likely token.
            stop: strings before which the reply ends.
            steers: to apply; the reply has a receipt for each.
            thinking: whether the model thinks before it answers; None is the engine's default.
            shaping: what else changes the distribution from which tokens are drawn.
            grammar: a regular expression that the reply must match; empty where it may be any.
            continuation: a text that is given as the reply, for its log-likelihood; empty where a reply is drawn.

        Raises:
            ContextOverflow: the prompt leaves no room for a reply.
            EngineUnavailable: there is no valid answer.
        """
        ...
