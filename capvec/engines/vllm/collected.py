"""Collecting from the ranks what they measured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Measured = Mapping[str, Any]
"""What a rank measured of a request."""


class Collected:
    """What the ranks measured of requests that have ended: one call for all that end at once.

    A call does not wait for the one before it. The ranks take a fraction of the time that a call is under way.
    """

    def __init__(self, call: Callable[[list[str]], Awaitable[Sequence[Mapping[str, Measured]]]]) -> None:
        """Args:
        call: asks every rank for what it measured of the requests with these keys.
        """
        self._call = call
        self._waiting: dict[str, asyncio.Future[list[Measured]] | None] = {}
        self._soon = False
        """Whether a call is about to begin."""
        self._calls: set[asyncio.Task[None]] = set()

    async def of(self, key: str) -> list[Measured]:
        """What each rank measured of a request."""
        result: asyncio.Future[list[Measured]] = asyncio.get_running_loop().create_future()
        self._waiting[key] = result
        self._collect_soon()
        return await result

    def discard(self, key: str) -> None:
        """Have the ranks drop what they measured of a request that nobody waits for."""
        self._waiting[key] = None
        self._collect_soon()

    def _collect_soon(self) -> None:
        """Begin a call when all that can go on now has gone on."""
        if not self._soon:
            self._soon = True
            call = asyncio.ensure_future(self._collect())
            self._calls.add(call)
            call.add_done_callback(self._calls.discard)

    async def _collect(self) -> None:
        self._soon = False
        wanted, self._waiting = self._waiting, {}
        try:
            ranks = await self._call(list(wanted))
        except Exception as error:
            for result in wanted.values():
                if result is not None and not result.done():
                    result.set_exception(error)
            return
        for key, result in wanted.items():
            if result is not None and not result.done():
                result.set_result([rank[key] for rank in ranks])
