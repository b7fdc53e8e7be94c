"""Load a Hugging Face model and find the path of its residual stream."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText, AutoTokenizer, PreTrainedConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

from capvec.engines.context import context_of
from capvec.engines.model_files import cannot_load, folder_digest
from capvec.engines.transformers import modeling_capvec
from capvec.engines.transformers.checkpoint import check_config, check_model, check_tokenizer
from capvec.engines.transformers.hooks import ResidualPath, check_order
from capvec.engines.transformers.loaded import LoadedModel, forward_uncached, refusing
from capvec.engines.transformers.packed import pack
from capvec.engines.transformers.proof import check_decoding, goes_on_from_a_state, same_in_any_threads
from capvec.engines.transformers.tables import table_of_positions
from capvec.engines.transformers.template_trial import tried_template
from capvec.errors import UsageError

BLOCK_PATHS = (
    "model.language_model.layers",
    "language_model.model.layers",
    "language_model.layers",
    "model.text_model.layers",
    "model.layers",
    "model.decoder.layers",
    "transformer.h",
    "transformer.blocks",
    "gpt_neox.layers",
    "backbone.layers",
)
"""Paths of the decoder blocks; the first one is used that holds as many modules as the text config has layers."""
END_NAMES = ("norm", "final_layernorm", "final_layer_norm", "ln_f", "norm_f", "final_norm")
"""Names of the final norm, beside the blocks."""


def load_model(
    name: str,
    *,
    label: str | None = None,
    context_length: int | None = None,
    device: str = "auto",
    dtype: str = "auto",
    packed: bool = False,
) -> LoadedModel:
    """Load a causal or image-text model with its tokenizer.

    Args:
        name: a folder or a Hugging Face id.
        label: the model's name in reports; `name` by default.
        context_length: overrides the model's config, up to the length that `context_of` allows.
        device: `auto` takes CUDA where there is one.
        dtype: `auto` is bfloat16 on CUDA and float32 on a CPU, where bfloat16 is slower to prefill.
        packed: whether linear layers may be packed (`packed`), as for a model that answers and is not edited.

    Raises:
        UsageError: there is no such model, it has no chat template that an agent can use, its decoder blocks were not
            found, it is not what its folder holds (`checkpoint`), or it fails one of `CHECKS`.
    """
    place = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if device == "auto" else device)
    precision = _dtype(dtype, place)
    try:
        config, classes, raw = _config(name)
        check_config(config, raw, name)
        _only_logits(config)
        tokenizer = AutoTokenizer.from_pretrained(name, config=config, trust_remote_code=False)
        check_tokenizer(tokenizer, name)
        model, report = classes.from_pretrained(
            name,
            config=config,
            dtype=precision,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
        )
    except (UsageError, MemoryError):
        raise
    except Exception as error:  # transformers computes with what a config says, so that any can come of a wrong one
        raise cannot_load(name, error) from error
    template = tried_template(tokenizer, name)
    model = model.to(place).eval().requires_grad_(False)
    text = config.get_text_config(decoder=True)
    path = find_residual_path(model, int(text.num_hidden_layers))
    check_model(model, raw, report, path, name)
    if packed:
        pack(model)
    length, limit = context_of(text, context_length, table_of_positions(model))
    loaded = LoadedModel(
        model=model,
        template=template,
        path=path,
        name=label or name,
        revision=getattr(config, "_commit_hash", None) or folder_digest(Path(name)),
        d_model=int(text.hidden_size),
        context_length=length,
        context_limit=limit,
        stop_ids=_stop_ids(model, tokenizer) | template.ends,
    )
    for check in CHECKS:
        check(loaded)
    return replace(loaded, goes_on_from_a_state=goes_on_from_a_state(loaded), any_threads=same_in_any_threads(loaded))


def find_residual_path(model: nn.Module, n_layers: int) -> ResidualPath:
    """The decoder blocks of a model and what follows them; vision and audio towers are ignored.

    Raises:
        UsageError: none of `BLOCK_PATHS` holds `n_layers` modules; the message lists these paths and the model's own.
    """
    modules = dict(model.named_modules())
    for dotted in BLOCK_PATHS:
        blocks = modules.get(dotted)
        if isinstance(blocks, nn.ModuleList) and len(blocks) == n_layers > 0:
            parent = modules[dotted.rpartition(".")[0]]
            end = next(
                (module for name in END_NAMES if isinstance(module := getattr(parent, name, None), nn.Module)), None
            )
            names = {module: name for name, module in modules.items()}
            return ResidualPath(list(blocks), end, dotted, names)
    found = ", ".join(
        f"{name} ({len(module)})" for name, module in modules.items() if isinstance(module, nn.ModuleList)
    )
    raise UsageError(
        f"cannot find the decoder layers of {type(model).__name__}: looked for {n_layers} modules (the text config's "
        f"num_hidden_layers) at {', '.join(BLOCK_PATHS)}; the model's module lists are: {found or 'none'}. "
        "Steering needs one list of decoder blocks; add its path to BLOCK_PATHS."
    )


@torch.inference_mode()
def _check_order(loaded: LoadedModel) -> None:
    """Layer numbers mean the order in which the blocks run."""
    one = torch.ones(1, 1, dtype=torch.long, device=loaded.device)
    with refusing(loaded.model, "with one token"):
        check_order(loaded.path, lambda: forward_uncached(loaded.model, one))


CHECKS: tuple[Callable[[LoadedModel], None], ...] = (_check_order, check_decoding)
"""What a model must pass when it is loaded, in this order; each raises `UsageError`."""


def stored_dtype(name: str) -> torch.dtype:
    """The dtype that a model's config names, or float32."""
    config, *_ = _config(name)
    dtype = config.dtype or config.get_text_config(decoder=True).dtype
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _config(name: str) -> tuple[Any, Any, dict[str, Any]]:
    """The config of a model, the class that loads it, and `config.json`.

    No code from a model's folder is run. A folder of `capvec bake` is loaded with capvec's own copy of the code in it;
    other models with code are refused.
    """
    raw, _ = PreTrainedConfig.get_config_dict(name)
    if not str(raw.get("model_type")).startswith(modeling_capvec.MODEL_TYPE):
        config = AutoConfig.from_pretrained(name, trust_remote_code=False)
        return config, auto_class(config), raw
    model_class = getattr(modeling_capvec, raw["architectures"][0])
    return model_class.config_class.from_pretrained(name), model_class, raw


def _only_logits(config: Any) -> None:
    """Ask a model for its logits alone: what training asks for beside them, some can give for a whole batch only."""
    for part in (config, config.get_text_config(decoder=True)):
        for name in ("output_router_logits", "output_hidden_states", "output_attentions"):
            if getattr(part, name, False):
                setattr(part, name, False)
        part.return_dict = True


def auto_class(config: Any) -> Any:
    """The loader of an architecture, by its name: a config type alone can be of a text or an image-text model."""
    names = tuple(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES.values())
    architectures = config.architectures or ()
    if any(architecture in names for architecture in architectures):
        return AutoModelForImageTextToText
    return AutoModelForCausalLM


def _dtype(name: str, device: torch.device) -> torch.dtype:
    if name == "auto":
        return torch.bfloat16 if device.type == "cuda" else torch.float32
    dtype = getattr(torch, name, None)
    if not isinstance(dtype, torch.dtype) or not dtype.is_floating_point:
        raise UsageError(f"--dtype {name!r}: expected auto, float32, bfloat16 or float16")
    return dtype


def _stop_ids(model: Any, tokenizer: Any) -> frozenset[int]:
    """The tokens that end a reply, from the generation config and the tokenizer."""
    configured = getattr(getattr(model, "generation_config", None), "eos_token_id", None)
    ids = configured if isinstance(configured, list) else [configured]
    return frozenset(int(token) for token in (*ids, tokenizer.eos_token_id) if token is not None)
