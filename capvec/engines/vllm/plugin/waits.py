"""How vLLM's processes wait for each other on a CPU."""

from __future__ import annotations

import time

from vllm.distributed.device_communicators import shm_broadcast

NAP_S = 0.0005
"""Much less than a step takes."""


def rest_between_looks() -> None:
    """Have a process rest before it looks again for another's message, where vLLM only lets others go first.

    Looking without a rest takes a processor core, and the threads of a model on the CPU share each step: all wait for
    the one that lost its core.
    """
    shm_broadcast.sched_yield = lambda: time.sleep(NAP_S)
