"""Whether vLLM still works: its processes may die, or wait for each other without end. Imports no vLLM."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any, Protocol

from capvec.engines.vllm.replicas import Replica

LOOK_EVERY_S = 0.5
STALLED_S = 90.0
"""Seconds without a step, while replies are waited for, after which vLLM counts as hung. A step that compiles a kernel
takes tens of seconds."""


class Working(Protocol):
    """What is looked at."""

    @property
    def replicas(self) -> Sequence[Replica]:
        """The copies of the model."""

    @property
    def died(self) -> str:
        """Which of vLLM's processes has ended, by its name; empty if all are there."""


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
    moved = {one.number: (one.steps, time.monotonic()) for one in engine.replicas}
    while not serving.done():
        await asyncio.wait({serving}, timeout=every_s)
        if engine.died:
            return f"a process of vLLM died: {engine.died}"
        for one in engine.replicas:
            steps, since = moved[one.number]
            if one.steps != steps or not one.requests:
                moved[one.number] = one.steps, time.monotonic()
            elif time.monotonic() - since > stalled_s:
                which = f" in copy {one.number} of {len(engine.replicas)}" if len(engine.replicas) > 1 else ""
                return f"vLLM has made no step{which} for {stalled_s:g} s"
    return ""
