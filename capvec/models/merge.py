"""`python -m capvec.models.merge BASE ADAPTER OUT`: merges a LoRA adapter into the weights of a base model.

It runs as a process of its own, so that its caller, `capvec.models.weights`, need not import torch. It writes
`capvec.json` beside the weights, so that `--model OUT` serves the agent as `--model pocket` does.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from capvec.exits import exit_code_of
from capvec.models.source import AGENT
from capvec.models.weights import MANIFEST


def merge(base: Path, adapter: Path, out: Path) -> None:
    """Compute W + (α/r)·B·A in float32, and save it as bfloat16 safetensors with the base model's tokenizer.

    Raises:
        UsageError: a tensor of either is missing, left over, of another shape, or not in floats; the message names it.
    """
    from transformers import AutoTokenizer  # noqa: PLC0415 (slow)

    from capvec.models.whole import add_adapter, load_whole  # noqa: PLC0415 (slow)

    merged = add_adapter(load_whole(base), adapter).merge_and_unload()
    merged.bfloat16().save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
    (out / MANIFEST).write_text(json.dumps({"serve": AGENT}) + "\n", encoding="utf-8")


def main() -> int:
    """Run the command. Returns its exit code, as `exit_code_of`."""
    parser = argparse.ArgumentParser(
        prog="python -m capvec.models.merge", description="Merge a LoRA adapter into a model."
    )
    parser.add_argument("base", type=Path, help="folder of the base model")
    parser.add_argument("adapter", type=Path, help="folder of the adapter, as peft writes it")
    parser.add_argument("out", type=Path, help="folder for the merged model")
    options = parser.parse_args()

    def command() -> int:
        merge(options.base, options.adapter, options.out)
        return 0

    return exit_code_of(command)


if __name__ == "__main__":
    sys.exit(main())
