"""What capvec adds to vLLM's workers: the installation after a model is loaded, and what the server can ask."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any

import torch
from vllm.platforms import current_platform
from vllm.v1.worker.gpu_model_runner import GPUModelRunner
from vllm.v1.worker.gpu_worker import Worker
from vllm.v1.worker.worker_base import WorkerBase

from capvec.engines.vllm.layout import KEY
from capvec.engines.vllm.plugin import ended
from capvec.engines.vllm.plugin.ahead import compile_ahead
from capvec.engines.vllm.plugin.draws import take_back_by_state
from capvec.engines.vllm.plugin.runner import Steering, install
from capvec.engines.vllm.plugin.waits import rest_between_looks
from capvec.errors import UsageError


def register() -> None:
    """The entry point: extend vLLM's classes, once in each process."""
    if hasattr(WorkerBase, "capvec_describe"):
        return
    load = Worker.load_model

    @functools.wraps(load)
    def load_model(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = (self.vllm_config.additional_config or {}).get(KEY)
        if given is not None:
            check_engine(self.vllm_config, self.model_runner)
            if self.device.type == "cuda":
                from capvec.engines.vllm.plugin.tuning import compile_at_once  # noqa: PLC0415 (needs Triton)

                compile_at_once()
        answer = load(self, *args, **kwargs)
        if given is not None:
            self.capvec_steering = install(self.model_runner, given)
            if self.device.type == "cpu":
                take_back_by_state(self.model_runner)
            elif self.device.type == "cuda":
                compile_ahead(self.model_runner)
        return answer

    Worker.load_model = load_model
    ended.follow()
    if current_platform.is_cpu():
        rest_between_looks()
    for name, function in _ANSWERS.items():
        setattr(WorkerBase, name, function)


def check_engine(config: Any, runner: Any) -> None:
    """Check that what vLLM was told to do is compatible with steering.

    Raises:
        UsageError: it is not; the message says why, and what to change.
    """
    parallel, passes = config.parallel_config, config.compilation_config.pass_config
    refusals = {
        "its second model runner: set VLLM_USE_V2_MODEL_RUNNER=0": not isinstance(runner, GPUModelRunner),
        "speculative decoding, whose rejected tokens cannot be told from others": config.speculative_config is not None,
        "prefill context parallelism": getattr(parallel, "prefill_context_parallel_size", 1) > 1,
        "sequence parallelism, with a part of the residual in each rank": bool(getattr(passes, "enable_sp", False)),
        "microbatching (DBO), whose halves of a batch run at the same time": bool(parallel.use_ubatching),
        "an external launcher, which starts an engine for each rank": (
            parallel.distributed_executor_backend == "external_launcher"
        ),
        "kv_sharing_fast_prefill, which leaves out tokens": bool(config.cache_config.kv_sharing_fast_prefill),
    }
    if refused := [what for what, so in refusals.items() if so]:
        raise UsageError(f"capvec cannot steer vLLM with {'; nor with '.join(refused)}")


def _steering(worker: Any) -> Steering:
    steering = getattr(worker, "capvec_steering", None)
    if not isinstance(steering, Steering):
        raise UsageError(f"this engine is not steered: it was started without {KEY!r} in --additional-config")
    return steering


def _describe(self: Any) -> dict[str, Any]:
    return _steering(self).describe()


def _put(self: Any, direction: str, data: bytes) -> str:
    return _steering(self).put(direction, data)


def _drop(self: Any, direction: str) -> None:
    _steering(self).drop(direction)


def _receipts(self: Any, keys: Sequence[str]) -> dict[str, Any]:
    return _steering(self).answers.receipts(keys)


def _ended(self: Any, requests: Sequence[str]) -> dict[str, Any]:
    return _steering(self).answers.ended(requests)


def _scrub(self: Any) -> None:
    """Replace what is not finite in the cache by 0. Blocks are reused as they are, and 0 times NaN is NaN, so that a
    reply with infinite residuals would spoil later ones.
    """
    for layer in self.model_runner.kv_caches:
        for cache in layer if isinstance(layer, list | tuple) else (layer,):
            if cache.is_floating_point() and cache.element_size() > 1:
                torch.nan_to_num_(cache, 0.0, 0.0, 0.0)


def _captured(self: Any, keys: Sequence[str]) -> dict[str, Any]:
    return _steering(self).answers.captured(keys)


_ANSWERS = {
    "capvec_describe": _describe,
    "capvec_put_direction": _put,
    "capvec_drop_direction": _drop,
    "capvec_receipts": _receipts,
    "capvec_captured": _captured,
    "capvec_ended": _ended,
    "capvec_scrub": _scrub,
}
"""Methods of a worker, which the server calls by `collective_rpc`."""
