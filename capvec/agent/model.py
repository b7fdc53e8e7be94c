"""What the agent loop needs of a language model, and a scripted one for tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

from capvec.errors import EngineUnavailable
from capvec.records import Message, Reply
from capvec.steering import IsolationCheck, Receipt, Steer


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
    ) -> Reply:
        """Answer `messages` under `steers`.

        Raises:
            ContextOverflow: the prompt leaves no room for a reply.
            EngineUnavailable: no answer, or not one we understand.
        """
        ...


class ScriptedModel:
    """Answers with the given texts in order: drives the loop in tests without mocks.

    A reply may be an exception, which is raised. Receipts are honest about nothing having been steered: none are given
    unless the test supplies them.
    """

    def __init__(self, replies: Iterable[str | Exception], *, receipts: Sequence[Receipt] = ()) -> None:
        self._replies = iter(replies)
        self._receipts = tuple(receipts)
        self.seen: list[tuple[dict[str, str], ...]] = []
        """Every conversation that was sent, in order."""

    def complete(
        self,
        messages: Sequence[Message],
        *,
        seed: int,
        max_tokens: int,
        temperature: float,
        stop: Sequence[str] = (),
        steers: Sequence[Steer] = (),
    ) -> Reply:
        self.seen.append(tuple(dict(message) for message in messages))
        reply = next(self._replies, None)
        if reply is None:
            raise EngineUnavailable(f"the script has no reply left: it was asked {len(self.seen)} times")
        if isinstance(reply, Exception):
            raise reply
        words = len(reply.split())
        prompt = sum(len(message["content"].split()) for message in messages)
        still = IsolationCheck(forwards=words, sites=0, watched=0, steered=0, leak_max=0.0)
        return Reply(reply, "stop", prompt, words, 0.0, self._receipts, isolation=still)
