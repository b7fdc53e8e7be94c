"""The processes of an engine that capvec started with vLLM."""

from __future__ import annotations

import time
from collections.abc import Callable

import psutil
import safetensors.numpy

from support.tiny_models import VECTORS


def cores() -> list[psutil.Process]:
    """Those that hold a copy of the model each, of the engine that this process started last."""
    engines = (one for one in psutil.Process().children() if "capvec.engines.vllm" in one.cmdline())
    engine = max(engines, key=psutil.Process.create_time)
    return [one for one in engine.children(recursive=True) if "VLLM::EngineCore" in " ".join(one.cmdline())]


def until(condition: Callable[[], object], seconds: float) -> object:
    """What the condition says at last: when it holds, or after these seconds."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.2)
    return condition()


def put(client):
    """Hands `VECTORS` over; gives their key."""
    return client.put_direction(safetensors.numpy.save({"directions": VECTORS})).hash
