"""What an engine is asked to generate, and what it tells of each token."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from capvec.serial import Record
from capvec.steering import Steer

TEMPERATURES = 0.01, 100.0
"""Least and largest, beside 0. vLLM draws at none below, and a number that float32 rounds to 0 divides no logit."""
REPETITION_PENALTIES = 0.01, 100.0
"""Least and largest. Models are used with 1 to 2; with these bounds, logits stay finite in float32."""
MOST_ALPHA = 1e19
"""Of a steer. The square of a residual that is longer, which the next norm computes, is infinite in float32."""


@dataclass(frozen=True)
class Shaping(Record):
    """What changes the model's distribution before a token is drawn. The defaults change nothing.

    In this order: biases and penalties of the logits, the temperature, `min_p`, `top_k`, `top_p`.
    """

    top_p: float = 1.0
    """Of the tokens in order, the fewest that have this probability together."""
    top_k: int = 0
    """As many of the most likely tokens; 0 for all."""
    min_p: float = 0.0
    """Tokens with at least this share of the largest probability."""
    presence_penalty: float = 0.0
    """Taken off the logit of a token that the reply has already."""
    frequency_penalty: float = 0.0
    """Taken off for each time that the reply has the token."""
    repetition_penalty: float = 1.0
    """Divides a positive logit of a token that is in the prompt or the reply, and multiplies a negative one."""
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    """Token → what is added to its logit."""


PLAIN = Shaping()


class Drawn(NamedTuple):
    """A token of a reply, as it was drawn."""

    token: int
    logprob: float | None = None
    """Of the token in the model's own distribution: at temperature 1, and before anything shapes it."""
    top: tuple[tuple[int, float], ...] = ()
    """The most likely tokens there, each with its log-probability, the likeliest first."""


Listener = Callable[[Drawn], None]
"""Is told each token of a reply but the one that ends it. It may be called in another thread."""


def seed_of_32_bits(seed: int) -> int:
    """The seed of a generator that takes 32 bits: the seed itself if it fits, else a hash of all its digits."""
    if 0 <= seed < 1 << 32:
        return seed
    return int.from_bytes(hashlib.sha256(str(seed).encode()).digest()[:4], "big")


@dataclass(frozen=True)
class ReplyRequest:
    """One reply to generate."""

    tokens: tuple[int, ...]
    """The rendered prompt."""
    max_tokens: int
    """At most what the model's context has room for; 0 with `echo`, for the prompt's tokens alone."""
    seed: int
    temperature: float
    stop: tuple[str, ...]
    steers: tuple[Steer, ...]
    """Their directions are held."""
    assistant: tuple[bool, ...] | None
    """Of each prompt token, whether it belongs to an assistant message; None where no steer asks."""
    shaping: Shaping = PLAIN
    logprobs: int | None = None
    """How many likely tokens the listener is told of for each token; None for no probabilities at all."""
    listener: Listener | None = None
    grammar: str = ""
    """A regular expression that the reply must match; empty where it may be any."""
    given: tuple[int, ...] = ()
    """The reply's tokens, where their log-probabilities are asked for and none is drawn."""
    echo: bool = False
    """Whether the listener is told of the prompt's tokens too, before the reply's, and of the token that ends it."""
