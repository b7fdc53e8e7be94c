"""Kernels of vLLM's first pass, compiled while it traces and compiles the model's graph.

vLLM begins with them when the graph is there, one after the other: those of linear attention, which it also tunes, and
the one that draws tokens. Each is asked for here as vLLM asks for it, with few rows. Where a kernel cannot be compiled
here, vLLM compiles it in its turn, and says what is wrong.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import torch
from vllm.v1.sample.ops.topk_topp_sampler import apply_top_k_top_p

ROWS = 16
"""Triton compiles the same code for any multiple of 16."""
_WARM_UP = "_warmup_prefill_kernels"
"""vLLM's method of a layer of linear attention."""


def compile_ahead(runner: Any) -> None:
    """Begin, in threads; the first pass waits where it needs what they compile.

    Args:
        runner: vLLM's model runner on a GPU, whose model is loaded.
    """
    linear = [layer for layer in runner.model.modules() if hasattr(layer, _WARM_UP)]
    with _Threads(runner.device) as threads:
        if linear:
            tuned = threads.begin(functools.partial(_tune, getattr(linear[0], _WARM_UP), linear[0], runner.dtype))
            for layer in linear:
                setattr(layer, _WARM_UP, _after(tuned, getattr(layer, _WARM_UP)))
        drawn = threads.begin(functools.partial(_draw, runner))
        runner._dummy_sampler_run = _after(drawn, runner._dummy_sampler_run)


class _Threads:
    """Threads that work on a device, and end when they have done what was begun in the context."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._pool = device, ThreadPoolExecutor(2, thread_name_prefix="capvec-ahead")

    def __enter__(self) -> _Threads:
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(wait=False)

    def begin(self, work: Callable[[], object]) -> Future[None]:
        def done() -> None:
            torch.cuda.set_device(self._device)
            with suppress(Exception), torch.inference_mode():
                work()

        return self._pool.submit(done)


def _after(work: Future[None], function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def waiting(*args: Any, **kwargs: Any) -> Any:
        work.result()
        return function(*args, **kwargs)

    return waiting


def _tune(warm_up: Callable[..., Any], layer: Any, dtype: torch.dtype) -> None:
    """What is found for one layer of linear attention holds for all. The method reads the form of its tensor alone."""
    width = (2 * layer.key_dim + layer.value_dim) // layer.tp_size
    warm_up(torch.empty(0, width, dtype=dtype, device=layer.A_log.device), 0)


def _draw(runner: Any) -> None:
    """By top-k and top-p together, as in vLLM's first pass."""
    vocabulary = runner.model_config.get_vocab_size()
    logits = torch.zeros(ROWS, vocabulary, device=runner.device)
    most = torch.full((ROWS,), vocabulary - 1, device=runner.device)
    apply_top_k_top_p(logits, most, torch.full((ROWS,), 0.9, device=runner.device))
