"""Whether vLLM still works: its processes may die, or wait for each other without end. Imports no vLLM."""

from __future__ import annotations

import asyncio
import time
from typing import Any, Protocol

LOOK_EVERY_S = 0.5
STALLED_S = 90.0
"""Seconds without a step, while replies are waited for, after which vLLM counts as hung. A step that compiles a kernel
takes tens of seconds."""


class Working(Protocol):
    """What is looked at."""

    requests: int

    @property
    def steps(self) -> int:
        """Steps of the batch so far."""

    @property
    def died(self) -> bool:
        """Whether a process has ended."""


async def trouble(
    serving: asyncio.Future[Any], engine: Working, *, every_s: float = LOOK_EVERY_S, stalled_s: float = STALLED_S
) -> str:
    """Look until the server ends or cannot go on.

    Args:
        serving: the server.
        engine: what it serves.
        every_s: seconds between two looks.
        stalled_s: seconds without a step that are too many.

    Returns:
        Why it cannot go on; empty if the server ended.
    """
    steps, moved = engine.steps, time.monotonic()
    while not serving.done():
        await asyncio.wait({serving}, timeout=every_s)
        if engine.died:
            return "a process of vLLM died"
        if engine.steps != steps or not engine.requests:
            steps, moved = engine.steps, time.monotonic()
        elif time.monotonic() - moved > stalled_s:
            return f"vLLM has made no step for {stalled_s:g} s"
    return ""
