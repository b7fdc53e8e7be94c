"""Loads models and adapters to convert them, all of their tensors or not at all.

transformers and peft put random numbers in the place of a tensor that is missing, and pass over one that is left over.
The model that is made of them would be as whole as any, so nothing would show it later.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import SafetensorError
from transformers import AutoModelForCausalLM, PreTrainedConfig

from capvec.engines.model_files import cannot_load
from capvec.engines.transformers.checkpoint import check_config, check_model, some_names
from capvec.engines.transformers.models import find_residual_path
from capvec.errors import UsageError
from capvec.parsing import read_json

_FLOATS = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
_FAULTS = (OSError, ValueError, LookupError, AttributeError, RuntimeError, ImportError, TypeError, SafetensorError)
"""What the libraries raise on files that are broken, or not what was expected."""


def load_whole(folder: Path, *, gguf_file: str | None = None, **options: Any) -> Any:
    """Load a causal model in float32 from a folder, or from a GGUF file in it.

    Args:
        folder: as `save_pretrained` writes it, or with a GGUF file.
        gguf_file: the name of the GGUF file.
        options: further arguments of `from_pretrained`.

    Raises:
        UsageError: it cannot be loaded, is quantised in a way that transformers does not know, or a tensor is missing,
            left over or of another shape; the message names it.
    """
    name = str(folder / gguf_file if gguf_file else folder)
    source = {"gguf_file": gguf_file} if gguf_file else {}
    try:
        raw, _ = PreTrainedConfig.get_config_dict(folder, **source)
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
            ignore_mismatched_sizes=True,  # they are in the report
            **source,
            **options,
        )
    except _FAULTS as error:
        raise cannot_load(name, error) from error
    model, report = loaded
    check_config(model.config, raw, name)
    path = find_residual_path(model, int(model.config.get_text_config(decoder=True).num_hidden_layers))
    check_model(model, raw, report, path, name)
    return model


def add_adapter(model: Any, folder: Path) -> Any:
    """A model with a LoRA adapter, as peft's model.

    Raises:
        UsageError: the model is quantised, or the adapter is no LoRA adapter, does not belong to the model, or has
            tensors that are no finite floats; the message names the tensor.
    """
    if getattr(model.config, "quantization_config", None) is not None:
        raise UsageError(f"{model.config.name_or_path}: is quantised; expected a base model with its weights in floats")
    _check_settings(folder)
    try:
        config = peft.PeftConfig.from_pretrained(str(folder))
        _check_numbers(peft.load_peft_weights(str(folder), device="cpu"), folder)
        adapted = peft.get_peft_model(model, config)
        report = adapted.load_adapter(str(folder), "default", torch_device="cpu")
    except _FAULTS as error:
        said = " ".join(str(error).split())[:300]
        raise UsageError(f"{folder}: the adapter does not fit the model: {type(error).__name__}: {said}") from error
    for keys, what in ((report.missing_keys, "lacks"), (report.unexpected_keys, "is for another model: it has")):
        if keys:
            raise UsageError(
                f"{folder}: the adapter {what} {some_names(keys)}; expected what its config says, and no more"
            )
    return adapted


def _check_settings(folder: Path) -> None:
    """Check that an adapter is of LoRA, and asks for nothing that this version of peft would pass over."""
    file = folder / "adapter_config.json"
    settings = read_json(file)
    if not isinstance(settings, dict) or settings.get("peft_type") != "LORA":
        raise UsageError(f"{file}: expected the config of a LoRA adapter, as peft writes it (peft_type LORA)")
    known = peft.LoraConfig()
    if unknown := [name for name, value in settings.items() if value and not hasattr(known, name)]:
        raise UsageError(
            f"{file}: this version of peft does not know {some_names(unknown)}; expected an adapter without it, or a "
            f"newer peft"
        )


def _check_numbers(tensors: dict[str, torch.Tensor], folder: Path) -> None:
    if quantised := [name for name, one in tensors.items() if one.dtype not in _FLOATS]:
        dtype = tensors[min(quantised)].dtype
        raise UsageError(f"{folder}: {some_names(quantised)}: {dtype}; expected an adapter that is not quantised")
    if broken := [name for name, one in tensors.items() if not one.isfinite().all()]:
        raise UsageError(f"{folder}: {some_names(broken)}: a number is NaN or infinite; expected finite ones")
