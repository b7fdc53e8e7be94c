"""Kernels that Triton tunes are compiled in all their configurations at once; Triton compiles one after the other.

vLLM's kernels of linear attention have about a hundred configurations. On first use they took 91 s, and 28 s with 16
threads; what is measured of them is kept in Triton's cache. More threads than these few hold up the one that traces the
model meanwhile (`ahead`), since all of them share Python's lock.
"""

from __future__ import annotations

import functools
import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from triton.runtime._async_compile import AsyncCompileMode
from triton.runtime.autotuner import Autotuner

MOST = 4
"""Threads."""


@functools.cache
def compile_at_once() -> None:
    """Extend Triton's class, once in a process."""
    bench = Autotuner._bench

    @functools.wraps(bench)
    def compiled(self: Any, *args: Any, config: Any, **meta: Any) -> Any:
        waiting = self.__dict__.setdefault("capvec_compiled", [])
        if config not in waiting:
            _compile(self, args, meta)
            waiting[:] = self.configs
        waiting.remove(config)
        return bench(self, *args, config=config, **meta)

    Autotuner._bench = compiled


def _compile(kernel: Any, args: Any, meta: dict[str, Any]) -> None:
    """Compile a kernel in all configurations. One that does not compile is told when it is tried."""
    with (
        ThreadPoolExecutor(min(MOST, len(os.sched_getaffinity(0)))) as pool,
        AsyncCompileMode(pool, ignore_errors=True),
    ):
        for config in kernel.configs:
            kernel.fn.run(*args, **{**meta, **config.all_kwargs(), "warmup": True})
