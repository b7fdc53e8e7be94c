"""`python -m capvec.models.convert GGUF OUT`: converts a GGUF file to a folder that transformers loads in seconds.

It runs as a process of its own, so that the caller need not import torch.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from capvec.errors import UsageError
from capvec.exits import exit_code_of


def convert(gguf: Path, out: Path) -> None:
    """Dequantise a model, and save it as bfloat16 safetensors with its tokenizer.

    Raises:
        UsageError: as `load_whole`, or the file has tensors that the model does not take; the message names them.
    """
    from transformers import AutoTokenizer, GgufConfig  # noqa: PLC0415 (slow)

    from capvec.models.whole import load_whole  # noqa: PLC0415 (slow)

    with _read_once():
        model = load_whole(gguf.parent, gguf_file=gguf.name, quantization_config=GgufConfig(dequantize=True))
        _check_all_taken(gguf, model)
        model.bfloat16().save_pretrained(out)
        AutoTokenizer.from_pretrained(str(gguf.parent), gguf_file=gguf.name).save_pretrained(out)


@contextmanager
def _read_once() -> Iterator[None]:
    """Keep what transformers makes of a GGUF file anew each time: its fields, of which a vocabulary is most, for the
    config, the weights and the tokenizer, and a table of all names of tensors for each tensor.
    """
    import gguf as gguf_files  # noqa: PLC0415 (slow)

    with ExitStack() as stack:
        for name in ("GGUFReader", "get_tensor_name_map"):
            maker = getattr(gguf_files, name)
            stack.callback(setattr, gguf_files, name, maker)
            setattr(gguf_files, name, functools.cache(maker))
        yield


def _check_all_taken(gguf: Path, model: Any) -> None:
    """Check that every tensor of a file is one of the model's; transformers passes over the others."""
    import gguf as gguf_files  # noqa: PLC0415 (slow)

    from capvec.engines.transformers.checkpoint import some_names  # noqa: PLC0415 (slow)

    reader = gguf_files.GGUFReader(str(gguf))
    named = {name: number for number, name in gguf_files.MODEL_ARCH_NAMES.items()}
    architecture = named[reader.fields["general.architecture"].contents()]
    names = gguf_files.get_tensor_name_map(architecture, model.config.num_hidden_layers)
    taken = {names.get_name(name, (".weight", ".bias")) for name in model.state_dict()}
    if extra := {tensor.name for tensor in reader.tensors} - taken:
        raise UsageError(
            f"{gguf}: a {type(model).__name__} has no place for {some_names(extra)}; expected the tensors of one"
        )


def main() -> int:
    """Run the command. Returns its exit code, as `exit_code_of`."""
    parser = argparse.ArgumentParser(
        prog="python -m capvec.models.convert", description="Convert a GGUF file to a folder of safetensors."
    )
    parser.add_argument("gguf", type=Path, help="the file")
    parser.add_argument("out", type=Path, help="folder for the model")
    options = parser.parse_args()

    def command() -> int:
        convert(options.gguf, options.out)
        return 0

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
