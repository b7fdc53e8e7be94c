"""What vLLM does not know of a request: where its reply ends, and with whom it may share keys and values."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from uuid import uuid4

import numpy as np

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import ReplyRequest
from capvec.steering import Steer

_SPARE = 16
"""Tokens at the end of a text, beside four for each character of a stop string, in which one is looked for."""


class Ending:
    """The tokens of a reply as they come, and where it ends."""

    def __init__(self, template: ChatTemplate, stop_ids: frozenset[int], request: ReplyRequest) -> None:
        self._template, self._stop_ids, self._request = template, stop_ids, request
        self._window = 4 * max(map(len, request.stop), default=0) + _SPARE
        self.tokens: list[int] = []
        self.ended = self.stopped = False
        """Whether it has ended, and whether at a stop token or string."""

    def take(self, token: int) -> bool:
        """Take the next token; whether the reply ends with it."""
        self.tokens.append(token)
        full = len(self.tokens) >= self._request.max_tokens
        self.stopped = token in self._stop_ids or (bool(self._request.stop) and self._has_stop(whole=full))
        self.ended = self.stopped or full
        return self.ended

    @property
    def text(self) -> str:
        """What was said, up to the first stop string."""
        text = self._template.decode(self._said)
        cuts = [at for stop in self._request.stop if (at := text.find(stop)) >= 0]
        return text[: min(cuts)] if cuts else text

    @property
    def _said(self) -> list[int]:
        """The tokens without the one that ends the reply."""
        return self.tokens[:-1] if self._stop_ids.intersection(self.tokens[-1:]) else self.tokens

    def _has_stop(self, *, whole: bool) -> bool:
        text = self._template.decode(self.tokens if whole else self.tokens[-self._window :])
        return any(stop in text for stop in self._request.stop)


def salt_of(steers: Sequence[Steer]) -> str:
    """What keeps keys and values apart that were computed under different steers.

    A generated token of one turn is a token of the next turn's prompt. Where steers treat the two alike, conversations
    under the same steers share their beginnings; where they do not, each request has a salt of its own.
    """
    if not shares_prefixes(steers):
        return uuid4().hex
    return hashlib.sha256(json.dumps([steer.to_json() for steer in steers], sort_keys=True).encode()).hexdigest()[:32]


def shares_prefixes(steers: Sequence[Steer]) -> bool:
    """Whether a token is steered alike in a prompt and after it."""
    return all(steer.positions == "all" for steer in steers)


def spans(marks: Sequence[bool]) -> list[list[int]]:
    """Where marks are set, as `[start, end)`."""
    edges = np.flatnonzero(np.diff(np.concatenate(([False], np.asarray(marks, bool), [False])).astype(np.int8)))
    return [[int(start), int(end)] for start, end in edges.reshape(-1, 2)]
