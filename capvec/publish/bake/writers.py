"""The modules that write into the residual stream, by architecture."""

from __future__ import annotations

from dataclasses import dataclass
from typing import cast

from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from capvec.engines.transformers.loaded import LoadedModel
from capvec.errors import UsageError

MLP = ("mlp.down_proj", "mlp.c_proj", "mlp.dense_4h_to_h", "mlp.fc2", "fc2")
"""Last map of a block: Llama, Mistral, Qwen, Gemma; GPT-2; GPT-NeoX; Phi; OPT."""
ATTENTION = (
    "self_attn.o_proj",
    "linear_attn.out_proj",
    "attn.c_proj",
    "attention.dense",
    "self_attn.dense",
    "self_attn.out_proj",
)
"""Output map of attention: Llama and similar; Qwen3.5's linear attention; GPT-2; GPT-NeoX; Phi; OPT."""
POSITIONS = ("transformer.wpe", "model.decoder.embed_positions")
"""Learned positions, which are added to the embedding of a token: GPT-2; OPT."""
IMAGES = ("model.visual.merger.linear_fc2",)
"""Map from image patches to embeddings: Qwen3.5."""


@dataclass(frozen=True)
class Writer:
    """A module whose output is added to the residual."""

    name: str
    """Dotted, from the model's root."""
    module: nn.Module

    @property
    def weight(self) -> Tensor:
        """`[out, in]` of a linear map; `[in, out]` of GPT-2's; `[rows, d_model]` of an embedding."""
        return cast(nn.Parameter, self.module.weight).detach()

    @property
    def bias(self) -> Tensor | None:
        """`[out]`; None if the map has no bias."""
        bias = getattr(self.module, "bias", None)
        return bias.detach() if isinstance(bias, Tensor) else None

    @property
    def output_axis(self) -> int:
        """The axis of the weight that runs along the residual."""
        return 0 if isinstance(self.module, nn.Linear) else 1


def mlp_writer(loaded: LoadedModel, layer: int) -> Writer:
    """The map whose output is the last term of the sum of block `layer`.

    Raises:
        UsageError: the block has no such map that is known.
    """
    return _one_of(MLP, loaded, layer, "an MLP's output map")


def all_writers(loaded: LoadedModel) -> tuple[Writer, ...]:
    """Every module that writes into the residual: embeddings, then the attention and MLP of each block.

    Raises:
        UsageError: a writer of a block or of an image model is not known.
    """
    modules = dict(loaded.model.named_modules())
    embedding = cast(PreTrainedModel, loaded.model).get_input_embeddings()
    names = [name for name, module in modules.items() if module is embedding]
    names += [name for name in (*POSITIONS, *IMAGES) if name in modules]
    if getattr(loaded.model.config, "vision_config", None) is not None and not any(name in modules for name in IMAGES):
        raise UsageError(
            f"{type(loaded.model).__name__} embeds images through a module that is not known (looked for "
            f"{', '.join(IMAGES)}); ablate the text-only form, or add the module's name to IMAGES"
        )
    writers = [Writer(name, modules[name]) for name in names]
    for layer in range(loaded.n_layers):
        writers += [_one_of(ATTENTION, loaded, layer, "an attention's output map"), mlp_writer(loaded, layer)]
    return tuple(writers)


def _one_of(paths: tuple[str, ...], loaded: LoadedModel, layer: int, what: str) -> Writer:
    """The linear map at the first of `paths` that block `layer` has."""
    block = loaded.path.blocks[layer]
    prefix = next(name for name, module in loaded.model.named_modules() if module is block)
    modules = dict(block.named_modules())
    for path in paths:
        if isinstance(modules.get(path), nn.Linear | Conv1D):
            return Writer(f"{prefix}.{path}", modules[path])
    raise UsageError(
        f"block {layer} of {type(loaded.model).__name__} has no linear map that is known as {what} (looked for "
        f"{', '.join(paths)}). In a mixture of experts no single map writes into the residual, since a router weights "
        "the output of each expert. Steer such a model by hooks, or bake --op add at a layer that has such a map."
    )
