"""A model's decoder blocks, found in vLLM's implementation of it, and the hooks on them."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from capvec.errors import UsageError

BLOCKS = (
    *("LlamaDecoderLayer", "MistralDecoderLayer", "Qwen2DecoderLayer", "Qwen2MoeDecoderLayer", "Qwen3DecoderLayer"),
    *("Qwen3MoeDecoderLayer", "Qwen3NextDecoderLayer", "Qwen3_5DecoderLayer", "Gemma2DecoderLayer"),
    *("Gemma3DecoderLayer", "MixtralDecoderLayer", "OlmoeDecoderLayer"),
)
"""Classes of vLLM whose `forward` takes and gives a pair that sums to the residual, with nothing else added in between.
Others with the same arguments scale the sum, or reduce it over the ranks later."""
MISSING = "PPMissingLayer"
"""vLLM's class of what stands for a module that another stage of a pipeline holds."""


@dataclass(frozen=True)
class Blocks:
    """The decoder blocks of a model, in the order in which they run.

    A stage of a pipeline holds some of them, one after the other. Without a pipeline the only stage holds all.
    """

    name: str
    """Dotted path of their list."""
    modules: Sequence[nn.Module]
    """Of the class `MISSING` where another stage holds the block."""
    end: nn.Module
    """The final norm, which receives the last block's output."""
    hooks: Sequence[tuple[str, Mapping[int, Any]]]
    """Dotted path of every module, with its forward hooks and, in another pair, with those before."""

    @property
    def here(self) -> range:
        """Those that this stage holds."""
        held = [number for number, block in enumerate(self.modules) if type(block).__name__ != MISSING]
        return range(held[0], held[-1] + 1)

    def receiver(self, layer: int) -> nn.Module | None:
        """The module that the residual of `layer` enters next; None if it does so in another stage.

        Some models have the final norm in every stage, and call it in the last.
        """
        if layer + 1 < len(self.modules):
            return self.modules[layer + 1] if layer + 1 in self.here else None
        return self.end if layer in self.here else None


def find_blocks(model: nn.Module) -> Blocks:
    """The decoder blocks of a model.

    Raises:
        UsageError: there are none in this stage, or their class is not one of `BLOCKS`.
    """
    lists = [(name, one) for name, one in model.named_modules() if isinstance(one, nn.ModuleList) and _kinds(one)]
    fitting = [(name, one) for name, one in lists if _kinds(one) <= set(BLOCKS)]
    if not fitting and any(isinstance(one, nn.ModuleList) and len(one) and not _kinds(one) for one in model.modules()):
        raise UsageError(
            "a stage of the pipeline holds none of the model's blocks; expected one or more in each: lower "
            "pipeline_parallel_size, or change VLLM_PP_LAYER_PARTITION"
        )
    if not fitting:
        longest = max((one for _, one in lists), key=len, default=None)
        kind = ", ".join(sorted(_kinds(longest))) if longest is not None else "no list of blocks"
        raise UsageError(
            f"vLLM's {type(model).__name__} has decoder blocks of the class {kind}; capvec steers {', '.join(BLOCKS)}: "
            "use --engine transformers"
        )
    name, blocks = max(fitting, key=lambda pair: len(pair[1]))
    for block in blocks:
        _check_block(block)
    parent = model.get_submodule(name.rpartition(".")[0])
    end = getattr(parent, "norm", None)
    if not isinstance(end, nn.Module):
        raise UsageError(f"vLLM's {type(model).__name__} has no final norm beside {name}; use --engine transformers")
    hooks = [
        (path, of)
        for path, module in model.named_modules()
        for of in (module._forward_hooks, module._forward_pre_hooks)
    ]
    return Blocks(name, list(blocks), end, hooks)


def _kinds(modules: nn.ModuleList) -> set[str]:
    """The classes of those that this stage holds."""
    return {type(one).__name__ for one in modules} - {MISSING}


def _check_block(block: nn.Module) -> None:
    if getattr(block, "use_attn_reduce_scatter_for_moe", False):
        raise UsageError(
            "this mixture of experts keeps only a part of the residual in each rank; start vLLM without expert "
            "parallelism, or use --engine transformers"
        )


@dataclass(frozen=True)
class Place:
    """Where the hooks of a site are; empty where another stage has them."""

    block: str
    receiver: str


class SteerHook:
    """A block's forward hook. The module has the site's number for the op, under the name `number`."""

    def __init__(self, site: int) -> None:
        self.site, self.number = site, f"capvec_leaves_{site}"

    def __call__(self, module: nn.Module, _args: Any, output: Any) -> None:
        if not (isinstance(output, tuple) and len(output) == 2 and all(isinstance(one, Tensor) for one in output)):
            raise UsageError(
                f"a block of the class {type(module).__name__} gave no pair of tensors; use --engine transformers"
            )
        torch.ops.capvec.steer(output[0], output[1], getattr(module, self.number))


class WitnessHook:
    """The forward pre-hook of the module that a block's output enters, with a number as `SteerHook`."""

    def __init__(self, site: int, module: nn.Module) -> None:
        self.site, self.number = site, f"capvec_arrives_{site}"
        names = list(inspect.signature(type(module).forward).parameters)[1:]
        pair = ("hidden_states", "residual") if "residual" in names and "hidden_states" in names else ()
        self.places = tuple((name, names.index(name)) for name in pair) or (("x", 0), ("residual", 1))

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        hidden, residual = (kwargs[name] if name in kwargs else args[index] for name, index in self.places)
        torch.ops.capvec.witness(hidden, residual, getattr(module, self.number))


def hook(blocks: Blocks, layers: Sequence[int], numbers: Sequence[Tensor]) -> None:
    """Put the hooks of each layer's site on its block and on the module that receives its output, where this stage has
    them.

    Args:
        blocks: of the model.
        layers: of each site.
        numbers: each site's, as a tensor on the model's device. Blocks of one kind then compile to the same code; with
            the number in it each would be compiled anew.
    """
    for site, layer in enumerate(layers):
        block, receiver = blocks.modules[layer], blocks.receiver(layer)
        if layer in blocks.here:
            steer = SteerHook(site)
            block.register_forward_hook(steer)
            block.register_buffer(steer.number, numbers[site], persistent=False)
        if receiver is not None:
            witness = WitnessHook(site, receiver)
            receiver.register_forward_pre_hook(witness, with_kwargs=True)
            receiver.register_buffer(witness.number, numbers[site], persistent=False)


def places(blocks: Blocks, sites: int) -> tuple[Place, ...]:
    """Where the hooks of each site are found in the model; several paths with commas between, if on several."""
    steered: list[list[str]] = [[] for _ in range(sites)]
    received: list[list[str]] = [[] for _ in range(sites)]
    for path, hooks in blocks.hooks:
        for one in hooks.values() if hooks else ():
            if isinstance(one, (SteerHook, WitnessHook)):
                (steered if isinstance(one, SteerHook) else received)[one.site].append(path)
    return tuple(Place(", ".join(own), ", ".join(following)) for own, following in zip(steered, received, strict=True))
