"""vLLM's environment variables, which it reads when it is imported. Imports no vLLM."""

from __future__ import annotations

import os
from collections.abc import Mapping

VARIABLES: Mapping[str, str] = {
    "VLLM_PLUGINS": "capvec",  # another plugin that steers would not be measured
    "VLLM_USE_V2_MODEL_RUNNER": "0",  # the plugin patches the other one
    "VLLM_WORKER_MULTIPROC_METHOD": "fork",  # what a process has imported is not imported again
    "VLLM_ENABLE_V1_MULTIPROCESSING": "1",  # a fault of a worker must not end this process
    "VLLM_NO_USAGE_STATS": "1",
    "VLLM_CPU_KVCACHE_SPACE": "2",  # GiB
    "VLLM_CPU_NUM_OF_RESERVED_CPU": "0",  # this process has little to do
}
"""Those of the CPU build may be set by the user."""


def set_variables() -> None:
    """Set them for this process and those that it starts."""
    for name, value in VARIABLES.items():
        if name.startswith("VLLM_CPU_"):
            os.environ.setdefault(name, value)
        else:
            os.environ[name] = value
