"""Where vLLM's processes come from: from one that imports what they need while this process imports. Imports no vLLM.

A process that vLLM starts by itself begins to import when this one has, and takes as long again.
"""

from __future__ import annotations

import multiprocessing
from importlib import import_module
from multiprocessing import forkserver

NEEDED = ("vllm.v1.engine.core", "vllm.v1.worker.gpu_worker", "transformers")
"""What every process that holds a model imports. None of it may start CUDA, which does not outlive a fork."""


def import_ahead() -> None:
    """Begin. The variables of `environment` must be set."""
    multiprocessing.set_forkserver_preload(list(NEEDED))
    forkserver.ensure_running()


def fork_engines() -> None:
    """Have vLLM start its processes by forking that one: those that hold a model, and one that coordinates them."""
    context = multiprocessing.get_context("forkserver")
    for name in ("utils", "coordinator"):
        setattr(import_module(f"vllm.v1.engine.{name}"), "get_mp_context", lambda: context)  # noqa: B010
