"""The copies of a model that vLLM holds with data parallelism: one serves a request, all hold the directions.

Imports no vLLM.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from capvec.errors import EngineUnavailable

RPC_S = 60.0
"""Seconds for a call that every rank answers between two steps."""
CHUNK = 128
"""Tokens by which beginnings of prompts are compared."""
REMEMBERED = 2**16
"""Chunks."""
SLACK = 4
"""How many requests more than another a copy may have, because it has computed the beginning of their prompts."""


@dataclass
class Replica:
    """A copy of the model, in processes of its own; without data parallelism there is one."""

    number: int
    requests: int = 0
    """Those that it serves now."""
    steps: int = 0
    """Of its batch, so far."""


class Replicas(Sequence[Replica]):
    """All copies, and calls of the plugin in their ranks."""

    def __init__(self, replicas: Sequence[Replica], client: Any) -> None:
        """Args:
        replicas: of each process of vLLM that schedules a batch, in their order.
        client: vLLM's client of these processes.
        """
        self._all, self._client = tuple(replicas), client
        self._served: OrderedDict[int, Replica] = OrderedDict()
        """Which copy computed a beginning last, by the hash of it and of what must not be shared."""

    def __len__(self) -> int:
        return len(self._all)

    def __getitem__(self, index: Any) -> Any:
        return self._all[index]

    @contextmanager
    def serving(self, salt: str = "", tokens: Sequence[int] = ()) -> Iterator[Replica]:
        """Count a request of the copy that is to serve it.

        That is the copy that has the fewest, or the one that served the longest beginning of the prompt, such as the
        conversation's turn before: keys and values are cached there.

        Args:
            salt: requests with another one share nothing.
            tokens: of the prompt; none if it is computed anew in any case.
        """
        chunks = _chunks(salt, tokens) if len(self._all) > 1 else []
        replica = min(self._all, key=lambda one: one.requests)
        home = next((self._served[chunk] for chunk in reversed(chunks) if chunk in self._served), replica)
        if home.requests <= replica.requests + SLACK:
            replica = home
        self._remember(chunks, replica)
        replica.requests += 1
        try:
            yield replica
        finally:
            replica.requests -= 1

    def _remember(self, chunks: Sequence[int], replica: Replica) -> None:
        for chunk in chunks:
            self._served[chunk] = replica
            self._served.move_to_end(chunk)
        while len(self._served) > REMEMBERED:
            self._served.popitem(last=False)

    async def call(self, method: str, *arguments: Any) -> list[Any]:
        """What each rank of each copy answers to a method of the plugin; raises as `call_one` does."""
        answers = await asyncio.gather(*(self.call_one(replica, method, *arguments) for replica in self._all))
        return [rank for replica in answers for rank in replica]

    async def call_one(self, replica: Replica, method: str, *arguments: Any) -> Sequence[Any]:
        """What each rank of one copy answers.

        Raises:
            EngineUnavailable: a rank does not answer in time.
        """
        engine = self._client.core_engines[replica.number]
        try:
            async with asyncio.timeout(RPC_S):
                # vLLM's own call of all copies gives only what the first one answers.
                answers: Sequence[Any] = await self._client._call_utility_async(
                    "collective_rpc", method, None, arguments, None, engine=engine
                )
        except TimeoutError as error:
            raise EngineUnavailable(f"a rank of vLLM did not answer {method} within {RPC_S:.0f} s") from error
        return answers


def _chunks(salt: str, tokens: Sequence[int]) -> list[int]:
    """Of each whole chunk of a prompt, a hash of all up to its end."""
    found: list[int] = []
    for end in range(CHUNK, len(tokens) + 1, CHUNK):
        before = found[-1] if found else hash(salt)
        found.append(hash((before, *tokens[end - CHUNK : end])))
    return found
