"""How fast an engine is, measured by a few requests: the seconds of a step by its rows, and of a prompt's tokens."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from capvec.agent.model import ChatModel
from capvec.records import Reply, Thinking
from capvec.run.capacity import EngineSpeed

ROWS = (1, 8, 32)
"""Requests at a time."""
_TOKENS = 17
"""Of a reply; the first comes with its prompt."""
_FEWEST = 5
"""Tokens of a reply from which on a step can be told from it."""
_LONGEST_S = 10.0
"""Seconds of one batch after which no larger one is sent."""
MOST_ROWS = {"transformers": 32}
"""Engine → rows that it decodes together by default."""
_OTHERS = 256


@dataclass(frozen=True)
class Batch:
    """Requests that were sent at once: first with replies of one token, then others like them with longer replies."""

    rows: int
    prompt_tokens: int
    """Of all rows."""
    short_s: float
    """Seconds until all replies of one token were there."""
    long_s: float
    """Seconds of the longer ones."""
    tokens: int
    """Of the longest reply."""


def measure_engine(
    model: ChatModel, backend: str, prompt_tokens: int, thinking: Thinking | None, say: Callable[[str], None]
) -> EngineSpeed | None:
    """Time unsteered requests, more of them at a time as long as they take less than ten seconds.

    Args:
        model: the engine's client.
        backend: the engine's name, for how many rows it decodes together.
        prompt_tokens: about the length of prompts.
        thinking: as in the study.
        say: prints one line.

    Returns:
        The speed; None where every reply ended after a few tokens.

    Raises:
        InfrastructureError: the engine does not answer.
    """
    say("timing the engine with 1, 8 and 32 requests at a time")
    batches: list[Batch] = []
    for rows in ROWS:
        batches.append(_batch(model, rows, prompt_tokens, thinking))
        if batches[-1].long_s > _LONGEST_S:
            break
    return speed_of(batches, MOST_ROWS.get(backend, _OTHERS))


def speed_of(batches: Sequence[Batch], most_rows: int) -> EngineSpeed | None:
    """The speed that batches show; None where no reply was long enough to show a step.

    A step is the difference that each further token makes. The largest batch shows the speed of prompts, and what a
    single reply of one token takes beyond its prompt is counted for every reply.
    """
    steps = {
        one.rows: (one.long_s - one.short_s) / (one.tokens - 1)
        for one in batches
        if one.tokens >= _FEWEST and one.long_s > one.short_s
    }
    if not steps:
        return None
    rate = max(one.prompt_tokens / one.short_s for one in batches)
    first = batches[0]
    return EngineSpeed(steps, rate, most_rows, max(first.short_s - first.prompt_tokens / rate, 0.0))


def _batch(model: ChatModel, rows: int, prompt_tokens: int, thinking: Thinking | None) -> Batch:
    short_s, _ = _timed(model, rows, prompt_tokens, 1, thinking)
    long_s, replies = _timed(model, rows, prompt_tokens, _TOKENS, thinking)
    tokens = max(reply.completion_tokens for reply in replies)
    return Batch(rows, sum(reply.prompt_tokens for reply in replies), short_s, long_s, tokens)


def _timed(
    model: ChatModel, rows: int, prompt_tokens: int, tokens: int, thinking: Thinking | None
) -> tuple[float, list[Reply]]:
    # Different prompts, since engines keep the beginnings of conversations.
    prompts = [_prompt(prompt_tokens) for _ in range(rows)]

    def ask(number: int) -> Reply:
        message = {"role": "user", "content": prompts[number]}
        return model.complete([message], seed=number, max_tokens=tokens, temperature=1.0, thinking=thinking)

    with ThreadPoolExecutor(rows) as pool:
        began = time.monotonic()
        replies = list(pool.map(ask, range(rows)))
        return time.monotonic() - began, replies


def _prompt(tokens: int) -> str:
    """Digits with a space before each, which tokenizers seldom join."""
    return " ".join(str(random.randrange(10)) for _ in range(max(tokens // 2, 1)))
