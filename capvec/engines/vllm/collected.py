"""Collecting from the ranks what they measured."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any

Measured = Mapping[str, Any]
"""What a rank measured of a request."""


class Collected:
    """What the ranks measured of requests that have ended: one call fetches all that have ended meanwhile."""

    def __init__(self, call: Callable[[list[str]], Awaitable[Sequence[Mapping[str, Measured]]]]) -> None:
        """Args:
        call: asks every rank for what it measured of the requests with these keys.
        """
        self._call = call
        self._waiting: dict[str, asyncio.Future[list[Measured]] | None] = {}
        self._task: asyncio.Task[None] | None = None

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
        if self._task is None or self._task.done():
            self._task = asyncio.ensure_future(self._collect())

    async def _collect(self) -> None:
        while self._waiting:
            wanted, self._waiting = self._waiting, {}
            try:
                ranks = await self._call(list(wanted))
            except Exception as error:
                for result in wanted.values():
                    if result is not None and not result.done():
                        result.set_exception(error)
                continue
            for key, result in wanted.items():
                if result is not None and not result.done():
                    result.set_result([rank[key] for rank in ranks])
