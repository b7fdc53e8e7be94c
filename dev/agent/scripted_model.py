"""A model that gives scripted replies, for demonstrations and tests."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from capvec.errors import EngineUnavailable
from capvec.records import Message, Reply
from capvec.steering import IsolationCheck, Receipt


class ScriptedModel:
    """Answers with the given texts in order, or raises the given exceptions; for tests and demonstrations.

    It steers nothing, so its replies have no receipts but those given.
    """

    def __init__(self, replies: Iterable[str | Exception], *, receipts: Sequence[Receipt] = ()) -> None:
        self._replies = iter(replies)
        self._receipts = tuple(receipts)
        self.seen: list[tuple[dict[str, str], ...]] = []
        """Every conversation that was sent, in order."""

    def complete(self, messages: Sequence[Message], **_: object) -> Reply:
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
