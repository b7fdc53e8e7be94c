"""`python -m capvec.models.convert GGUF OUT`: converts a GGUF file to a folder that transformers loads in seconds.

It runs as a process of its own, so that the caller need not import torch.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import gguf as gguf_files
from transformers import AutoTokenizer, GgufConfig

from capvec.engines.transformers.checkpoint import some_names
from capvec.errors import UsageError
from capvec.models.whole import load_whole


def convert(gguf: Path, out: Path) -> None:
    """Dequantise a model, and save it as bfloat16 safetensors with its tokenizer.

    Raises:
        UsageError: as `load_whole`, or the file has tensors that the model does not take; the message names them.
    """
    model = load_whole(gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True))
    _check_all_taken(gguf, model)
    model.bfloat16().save_pretrained(out)
    AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(out)


def _check_all_taken(gguf: Path, model: Any) -> None:
    """Check that every tensor of a file is one of the model's; transformers passes over the others."""
    reader = gguf_files.GGUFReader(gguf)
    named = {name: number for number, name in gguf_files.MODEL_ARCH_NAMES.items()}
    architecture = named[reader.fields["general.architecture"].contents()]
    names = gguf_files.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    taken = {names.get_name(name, (".weight", ".bias")) for name in model.state_dict()}
    if extra := {tensor.name for tensor in reader.tensors} - taken:
        raise UsageError(
            f"{gguf}: a {type(model).__name__} has no place for {some_names(extra)}; expected the tensors of one"
        )


if __name__ == "__main__":
    try:
        convert(Path(sys.argv[1]), Path(sys.argv[2]))
    except UsageError as error:
        sys.exit(str(error))
