"""Where vLLM's processes come from: from one that imports what they need while this process imports. Imports no vLLM.

A process that vLLM starts by itself begins to import when this one has, and takes as long again.
"""

from __future__ import annotations

import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from importlib import import_module
from multiprocessing import forkserver
from typing import Any

NEEDED = ("vllm.v1.engine.core", "vllm.v1.worker.gpu_worker", "transformers")
"""What every process that holds a model imports. None of it may start CUDA, which does not outlive a fork."""


def import_ahead() -> None:
    """Begin. The variables of `environment` must be set."""
    multiprocessing.set_forkserver_preload(list(NEEDED))
    forkserver.ensure_running()


def fork_engines() -> None:
    """Have vLLM start its processes by forking that one: those that hold a model, one that coordinates them, and one
    that looks at a model's class, where vLLM has no note of it from earlier.
    """
    context = multiprocessing.get_context("forkserver")
    for name in ("utils", "coordinator"):
        setattr(import_module(f"vllm.v1.engine.{name}"), "get_mp_context", lambda: context)  # noqa: B010
    setattr(import_module("vllm.model_executor.models.registry"), "_run_in_subprocess", _in_a_fork)  # noqa: B010


def _in_a_fork(function: Callable[[], Any]) -> Any:
    """What a function answers in a process of its own, in which vLLM's plugins are."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("forkserver")) as pool:
        return pool.submit(_call, import_module("cloudpickle").dumps(function)).result()


def _call(function: bytes) -> Any:
    import_module("vllm.plugins").load_general_plugins()
    return pickle.loads(function)()
