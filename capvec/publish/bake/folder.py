"""The folder of a baked model: weights and config of the edited model, and copies of the source's other files."""

from __future__ import annotations

import copy
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from torch import Tensor

from capvec.engines.protocol import ModelSource
from capvec.engines.transformers import modeling_capvec
from capvec.engines.transformers.loaded import LoadedModel
from capvec.engines.transformers.models import auto_class
from capvec.models.weights import MANIFEST
from capvec.publish.bake.edit import Edit
from capvec.publish.bake.record import BAKED

CODE = Path(modeling_capvec.__file__)
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".gguf", ".h5", ".msgpack", ".onnx")
_OWN = ("config.json", "README.md", BAKED, CODE.name)
"""Files of the source that are not copied: the baked folder has its own, or they would not be true of it."""


def write_folder(out: Path, loaded: LoadedModel, source: ModelSource, edit: Edit, dtype: torch.dtype) -> bool:
    """Save an edited model: the edited tensors in float32, all others in the source's dtype.

    Args:
        out: a new folder.
        loaded: the source in float32, after `put`.
        source: where the source is, for the files beside the weights.
        edit: the edit that was put.
        dtype: the source's dtype.

    Returns:
        Whether transformers loads the folder only with `trust_remote_code=True`.
    """
    model: Any = loaded.model
    cls, config = _form(model, edit)
    if edit.unties:
        for part in (config, config.get_text_config(decoder=True)):
            part.tie_word_embeddings = False
    state = {name: _stored(name, tensor, edit, dtype) for name, tensor in model.state_dict().items()}
    with torch.device("meta"):
        baked = cls(config)
    # Other biases that the config asks for are zero: `mlp_bias` gives one to every linear map of an MLP.
    asked = {name: part.shape for name, part in baked.state_dict().items() if name not in state}
    zeros = {name: torch.zeros(shape, dtype=dtype) for name, shape in asked.items()}
    baked.load_state_dict(state | zeros, assign=True)
    baked.tie_weights()
    baked.generation_config = model.generation_config
    baked.save_pretrained(out)
    _name_dtype(out / "config.json", dtype)
    _copy_rest(source.path_or_id, out)
    _describe(out / MANIFEST, source)
    biased = hasattr(config, "capvec_biases")
    if biased:
        shutil.copyfile(CODE, out / CODE.name)
    return biased


def _form(model: Any, edit: Edit) -> tuple[type, Any]:
    """The class and the config that have every tensor of the edited model."""
    config = copy.deepcopy(model.config)
    if not edit.new_biases:
        return type(model), config
    native = copy.deepcopy(model.config)
    text = native.get_text_config(decoder=True)
    if getattr(text, "mlp_bias", None) is False:
        text.mlp_bias = True
        with torch.device("meta"):
            names = set(type(model)(native).state_dict())
        others = names - set(model.state_dict())
        if names >= set(edit.tensors) and all(name.endswith(".bias") for name in others):
            return type(model), native
    return _biased_form(model, config, edit)


def _biased_form(model: Any, config: Any, edit: Edit) -> tuple[type, Any]:
    bases = [type(part).__name__.removeprefix(modeling_capvec.PREFIX) for part in (config, model)]
    names = [modeling_capvec.PREFIX + base for base in bases]
    config_class, cls = (getattr(modeling_capvec, name) for name in names)
    biased = config_class.from_dict(config.to_dict())
    biased.capvec_biases = [*getattr(config, "capvec_biases", ()), *edit.new_biases]
    module = CODE.stem
    biased.auto_map = {
        "AutoConfig": f"{module}.{names[0]}",
        auto_class(model.config).__name__: f"{module}.{names[1]}",
    }
    return cls, biased


def _stored(name: str, tensor: Tensor, edit: Edit, dtype: torch.dtype) -> Tensor:
    """A tensor as the folder stores it: in the source's dtype, unless that would lose precision."""
    if name in edit.tensors or not tensor.is_floating_point():
        return tensor.cpu()
    stored = tensor.to(dtype)
    return (stored if torch.equal(stored.to(tensor.dtype), tensor) else tensor).cpu()


def _name_dtype(path: Path, dtype: torch.dtype) -> None:
    """Set the dtype of the config to the source's; `save_pretrained` writes the first parameter's."""
    config = json.loads(path.read_text(encoding="utf-8"))
    for part in (config, config.get("text_config") or {}):
        if "dtype" in part or part is config:
            part["dtype"] = str(dtype).removeprefix("torch.")
    path.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _copy_rest(path_or_id: str, out: Path) -> None:
    """Copy the tokenizer, chat template, generation config, licence and other files."""
    patterns = [f"*{suffix}" for suffix in _WEIGHTS]
    folder = Path(path_or_id)
    if not folder.is_dir():
        folder = Path(snapshot_download(path_or_id, ignore_patterns=patterns))
    for file in sorted(folder.iterdir()):
        weights = file.suffix in _WEIGHTS or file.name.endswith(".index.json")
        if file.is_file() and not weights and file.name not in _OWN and file.suffix != ".py":
            shutil.copyfile(file, out / file.name)


def _describe(path: Path, source: ModelSource) -> None:
    """Write `capvec.json`, so that the model is served as its source is."""
    manifest = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    serve = {"context_length": source.context_length} | source.defaults.to_json()
    path.write_text(json.dumps(manifest | {"serve": serve}) + "\n", encoding="utf-8")
