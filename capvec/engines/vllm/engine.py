"""A model in vLLM, as capvec runs it.

vLLM's own settings stand where they change nothing that a receipt says: CUDA graphs, compilation, chunked prefill, the
prefix cache, preemption, tensor and pipeline parallelism, quantised weights. `arguments.REFUSED` lists what is switched
off, each with its reason. The plugin in `capvec.engines.vllm.plugin` runs in vLLM's worker processes: it steers, and
measures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from transformers import AutoConfig, AutoTokenizer, GenerationConfig
from vllm import AsyncEngineArgs
from vllm.distributed.utils import get_pp_indices
from vllm.platforms import current_platform
from vllm.usage.usage_lib import UsageContext
from vllm.v1.engine.async_llm import AsyncLLM
from vllm.v1.metrics.loggers import StatLoggerBase

from capvec import __version__
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.context import context_of
from capvec.engines.model_files import cannot_load, folder_digest
from capvec.engines.protocol import EngineInfo, GenerationDefaults
from capvec.engines.transformers.template_trial import tried_template
from capvec.engines.vllm import versions
from capvec.engines.vllm.arguments import COPIES, EXECUTOR, LAYERS, STAGES, TENSOR, check_arguments
from capvec.engines.vllm.forked import fork_engines
from capvec.engines.vllm.replicas import Replica, Replicas
from capvec.errors import EngineUnavailable, UsageError

ROWS, ROWS_ON_CPU = 256, 32
"""Replies decoded together by each copy of the model, unless `max_num_seqs` says otherwise."""


class StepCount(StatLoggerBase):  # type: ignore[misc]
    """Counts the steps of a copy's scheduler; vLLM calls it after each."""

    def __init__(self, replica: Replica) -> None:
        self._replica = replica

    def record(self, *_: Any, **__: Any) -> None:
        self._replica.steps += 1

    def log_engine_initialized(self) -> None:
        """There is nothing to say."""


@dataclass
class ServedModel:
    """A model that vLLM holds, with the plugin in every rank."""

    llm: AsyncLLM
    info: EngineInfo
    template: ChatTemplate
    stop_ids: frozenset[int]
    """Tokens that end a reply."""
    replicas: Replicas
    directions: int
    """How many the ranks have room for."""
    captures: int
    """Of how many conversations at once each copy of the model can sum the residuals."""


async def load(
    name: str,
    *,
    label: str | None,
    context_length: int | None,
    defaults: GenerationDefaults,
    arguments: Mapping[str, Any],
) -> ServedModel:
    """Load a model into vLLM's processes.

    Args:
        name: a folder or a Hugging Face id.
        label: its name in reports; `name` by default.
        context_length: overrides the model's config, up to the length that `context_of` allows.
        defaults: passed on to clients.
        arguments: of vLLM's engine.

    Raises:
        UsageError: there is no such model, it has no chat template that an agent can use, an argument is refused, or
            the plugin cannot steer its blocks.
    """
    versions.check_version()
    check_arguments(arguments)
    read = _read(name)
    asked = arguments.get("max_model_len", context_length)
    length, limit = context_of(read.config.get_text_config(decoder=True), asked if isinstance(asked, int) else None)
    copies = [Replica(number) for number in range(arguments.get(COPIES, 1))]
    llm = _start(name, {"max_model_len": length} | dict(arguments), copies)
    replicas = Replicas(copies, llm.engine_core)
    try:
        described = await _described(replicas, read)
    except UsageError:
        llm.shutdown()
        raise
    info = _info(llm, read, described)
    own: dict[str, Any] = {
        "model": label or name,
        "defaults": defaults,
        "context_limit": limit,
        "backend_args": dict(arguments),
    }
    return ServedModel(
        llm, replace(info, **own), read.template, read.stop_ids, replicas, described["capacity"], described["captures"]
    )


async def adopt(llm: AsyncLLM) -> ServedModel:
    """A model that a running vLLM holds already, such as that of `vllm serve`.

    Raises:
        UsageError: it has no chat template that an agent can use, the plugin cannot steer its blocks, or other servers
            beside this one send it requests.
    """
    versions.check_version()
    if llm.engine_core.client_count > 1:
        raise UsageError(
            f"{llm.engine_core.client_count} servers share this vLLM, and a direction that one was given is unknown to "
            "the others: start it with --api-server-count 1"
        )
    read = _read(llm.model_config.model)
    replicas = Replicas([Replica(number) for number in range(len(llm.engine_core.core_engines))], llm.engine_core)
    described = await _described(replicas, read)
    info = _info(llm, read, described)
    return ServedModel(llm, info, read.template, read.stop_ids, replicas, described["capacity"], described["captures"])


@dataclass(frozen=True)
class _Read:
    """What transformers reads of a model's files."""

    name: str
    config: Any
    template: ChatTemplate
    stop_ids: frozenset[int]


def _read(name: str) -> _Read:
    try:
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        tokenizer = AutoTokenizer.from_pretrained(name, config=config, trust_remote_code=False)
    except (OSError, ValueError, LookupError, AttributeError, RuntimeError, ImportError) as error:
        raise cannot_load(name, error) from error
    template = tried_template(tokenizer, name)
    return _Read(name, config, template, _stop_ids(name, config, tokenizer) | template.ends)


async def _described(replicas: Replicas, read: _Read) -> Mapping[str, Any]:
    """What the ranks say alike of the model.

    Raises:
        UsageError: one of them has no plugin, or cannot steer.
    """
    try:
        return _same_in_all(await replicas.call("capvec_describe"))
    except Exception as error:
        raise UsageError(
            f"{read.name!r} cannot be steered in vLLM {versions.installed()}: capvec's plugin does not answer from "
            f"every rank ({error}); use --engine transformers"
        ) from error


def _info(llm: AsyncLLM, read: _Read, described: Mapping[str, Any]) -> EngineInfo:
    return EngineInfo(
        model=read.name,
        revision=getattr(read.config, "_commit_hash", None) or folder_digest(Path(read.name)),
        architecture=llm.model_config.architecture,
        n_layers=described["layers"],
        d_model=described["d_model"],
        context_length=int(llm.model_config.max_model_len),
        dtype=str(llm.model_config.dtype).removeprefix("torch."),
        device="cpu" if current_platform.is_cpu() else current_platform.get_device_name(),
        engine=__version__,
        blocks=described["blocks"],
        model_type=getattr(read.config, "model_type", ""),
        template=read.template.info,
        backend=f"vllm {versions.installed()}",
    )


def settings() -> dict[str, Any]:
    """What vLLM is started with where the user says nothing, without the plugin's own."""
    on_cpu = current_platform.is_cpu()
    return {
        "dtype": "float32" if on_cpu else "bfloat16",
        "max_num_seqs": ROWS_ON_CPU if on_cpu else ROWS,
        # The usual sampler of the CPU build ignores every seed where one row of the batch has none.
        "use_fp64_gumbel": on_cpu,
        "seed": 0,
        "language_model_only": True,
        "disable_log_stats": True,
        "generation_config": "vllm",
    }


def _start(name: str, arguments: dict[str, Any], copies: Sequence[Replica]) -> AsyncLLM:
    fork_engines()
    own = settings() | {"additional_config": {"capvec": {"layers": arguments.pop(LAYERS, "all")}}}
    split = any(arguments.get(how, 1) != 1 for how in (TENSOR, STAGES))
    if len(copies) > 1 and not current_platform.is_cpu() and not split:
        # Otherwise each copy has two processes, and receipts wait for the next step of the other.
        own[EXECUTOR] = "uni"
    try:
        wanted = AsyncEngineArgs(model=name, **(own | arguments))
        if len(copies) > 1 and wanted.create_model_config().is_moe:
            raise UsageError(
                f"--engine-arg {COPIES}: the copies of a mixture of experts share each step, which is not tested; use "
                "tensor_parallel_size"
            )
        if (stages := arguments.get(STAGES, 1)) != 1:
            _check_stages(wanted.create_model_config().get_total_num_hidden_layers(), stages)
        # In a step of a server vLLM computes up to 8,192 tokens on an H100, in one of a library 2,048.
        context = UsageContext.OPENAI_API_SERVER
        counting = [lambda _config, number: StepCount(copies[number])]
        return AsyncLLM.from_engine_args(wanted, usage_context=context, stat_loggers=counting)
    except (TypeError, ValueError, NotImplementedError) as error:
        # An unknown argument, values that do not go together, or one that vLLM has no code for.
        said = " ".join(str(error).split())
        raise UsageError(f"vLLM refuses to serve {name!r}: {said[:600]}") from error


def _check_stages(blocks: int, stages: int) -> None:
    """Check that every stage of a pipeline has something to steer: vLLM starts one without a block too.

    Raises:
        UsageError: one would have none.
    """
    for stage in range(stages):
        start, end = get_pp_indices(blocks, stage, stages)
        if start == end:
            raise UsageError(
                f"--engine-arg {STAGES}={stages}: stage {stage} would hold none of the model's {blocks} blocks; "
                "expected one or more in each: lower it, or change VLLM_PP_LAYER_PARTITION"
            )


def _same_in_all(ranks: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What the ranks say alike of the model."""
    first = ranks[0]
    for other in ranks:
        for key in ("layers", "d_model", "blocks", "capacity", "version"):
            if other[key] != first[key]:
                raise EngineUnavailable(f"the ranks differ in {key}: {first[key]!r} and {other[key]!r}")
    if first["version"] != __version__:
        raise EngineUnavailable(f"the ranks have capvec {first['version']}, and this is {__version__}")
    return first


def _stop_ids(name: str, config: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply, from the generation config and the tokenizer."""
    try:
        configured = GenerationConfig.from_pretrained(name).eos_token_id
    except OSError:
        configured = GenerationConfig.from_model_config(config).eos_token_id
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
