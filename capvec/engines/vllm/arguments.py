"""The arguments of vLLM's engine: those that capvec sets, and those that it refuses. Imports no vLLM.

`--engine-arg KEY=VALUE` passes any other on, by the name that `vllm.AsyncEngineArgs` has for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from capvec.errors import UsageError

LAYERS = "capvec_layers"
"""capvec's own: the decoder blocks that can be steered, a list of numbers; all of them if absent."""
COPIES = "data_parallel_size"
"""vLLM's: how many copies of the model there are."""
TENSOR = "tensor_parallel_size"
"""vLLM's: over how many ranks each layer of a copy reaches."""
STAGES = "pipeline_parallel_size"
"""vLLM's: into how many stages a copy is divided."""
EXECUTOR = "distributed_executor_backend"
"""vLLM's: what starts the ranks."""
EXECUTORS = ("mp", "ray", "uni")
"""Those that start every rank of a copy, and ask it. An external launcher starts a whole engine for each rank."""

_POSITIONS = "the tokens of a forward pass would not be those that the receipts count"
_OTHER_WEIGHTS = "the model is what --model names, and its digest is on record"
_OTHER_CODE = "capvec measures what vLLM's own code computes"
_ONE_SERVER = "all copies of the model must be known here, and get every direction; use data_parallel_size"
REFUSED: Mapping[str, str] = {
    "speculative_config": "drafted tokens that are thrown away pass through the blocks too, and would count",
    "kv_transfer_config": "keys and values from elsewhere were computed under steers that are not known",
    "enable_dbo": "a batch that is cut in two has two sets of rows, and the steers are laid out for one",
    "ubatch_size": "a batch that is cut in two has two sets of rows, and the steers are laid out for one",
    "decode_context_parallel_size": _POSITIONS,
    "prefill_context_parallel_size": _POSITIONS,
    "kv_sharing_fast_prefill": "some blocks would skip the positions of the prompt",
    "enable_lora": _OTHER_WEIGHTS,
    "model": _OTHER_WEIGHTS,
    "model_weights": _OTHER_WEIGHTS,
    "revision": _OTHER_WEIGHTS,
    "tokenizer": _OTHER_WEIGHTS,
    "tokenizer_revision": _OTHER_WEIGHTS,
    "hf_overrides": _OTHER_WEIGHTS,
    "trust_remote_code": "the engine never runs code from a model's folder",
    "worker_cls": _OTHER_CODE,
    "worker_extension_cls": _OTHER_CODE,
    "scheduler_cls": _OTHER_CODE,
    "logits_processors": "the model's own logits decide what is drawn",
    "runner": "the engine generates text",
    "convert": "the engine generates text",
    "skip_tokenizer_init": "the chat template needs the tokenizer",
    "served_model_name": "reports use the name that --model has",
    "generation_config": "temperature and stop tokens come with each request",
    "override_generation_config": "temperature and stop tokens come with each request",
    "additional_config": f"capvec's own are there; use {LAYERS}",
    "disable_log_stats": "the steps are counted by it",
    "enable_sleep_mode": "an engine that sleeps looks stalled",
    "data_parallel_rank": _ONE_SERVER,
    "data_parallel_external_lb": _ONE_SERVER,
    "data_parallel_hybrid_lb": _ONE_SERVER,
    "data_parallel_multi_port_external_lb": _ONE_SERVER,
    "enable_elastic_ep": _ONE_SERVER,
}
"""Argument → why it is refused."""
_OFF = (None, False, 0, 1)
"""Values that switch nothing on."""


def check_arguments(given: Mapping[str, Any]) -> None:
    """Refuse arguments under which a receipt would not be one.

    Raises:
        UsageError: there is one; the message names it and says why.
    """
    for key, value in given.items():
        if key in REFUSED and (value not in _OFF or (key == "data_parallel_rank" and value is not None)):
            raise UsageError(f"--engine-arg {key}: {REFUSED[key]}; leave it out")
    copies = given.get(COPIES, 1)
    if type(copies) is not int or copies < 1:
        raise UsageError(f"--engine-arg {COPIES}={copies!r}: expected how many copies of the model to hold, 1 or more")
    if (executor := given.get(EXECUTOR)) is not None and executor not in EXECUTORS:
        raise UsageError(
            f"--engine-arg {EXECUTOR}={executor!r}: expected {' or '.join(EXECUTORS)}, or nothing: receipts come from "
            "every rank, and these start and ask all of them"
        )
    if executor == "uni" and (split := [name for name in (TENSOR, STAGES) if given.get(name, 1) != 1]):
        raise UsageError(f"--engine-arg {EXECUTOR}=uni: it starts one rank, and {split[0]} needs more; leave it out")
    layers = given.get(LAYERS)
    if LAYERS in given and not (
        isinstance(layers, list) and layers and all(type(layer) is int and layer >= 0 for layer in layers)
    ):
        raise UsageError(f"--engine-arg {LAYERS}={layers!r}: expected a list of blocks, as in {LAYERS}=[20,22]")
    compilation = given.get("compilation_config")
    passes = compilation.get("pass_config") if isinstance(compilation, dict) else None
    if isinstance(passes, dict) and any(passes.get(name) for name in ("enable_sp", "enable_sequence_parallelism")):
        raise UsageError(f"--engine-arg compilation_config: sequence parallelism: {_POSITIONS}; leave it out")
