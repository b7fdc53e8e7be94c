"""`python -m capvec.models.merge BASE ADAPTER OUT`: a base model with a LoRA adapter merged into its weights.

A process of its own, so that whoever fetches the bundled agent (`capvec.models.weights`) does not import torch.
`capvec.json` beside the weights says how the agent wants to be asked, so that `--model OUT` serves it as
`--model pocket` is served.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import peft
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from capvec.models.source import AGENT
from capvec.models.weights import MANIFEST


def merge(base: Path, adapter: Path, out: Path) -> None:
    """W + (α/r)·B·A in float32, saved as bfloat16 safetensors with the base's tokenizer."""
    model = AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32)
    merged = peft.PeftModel.from_pretrained(model, adapter, torch_dtype=torch.float32).merge_and_unload()
    merged.bfloat16().save_pretrained(out)
    AutoTokenizer.from_pretrained(base).save_pretrained(out)
    (out / MANIFEST).write_text(json.dumps({"serve": AGENT}) + "\n", encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m capvec.models.merge", description="merge a LoRA adapter")
    parser.add_argument("base", type=Path, help="a model folder")
    parser.add_argument("adapter", type=Path, help="a folder as peft writes it")
    parser.add_argument("out", type=Path, help="a folder for the merged model")
    options = parser.parse_args()
    merge(options.base, options.adapter, options.out)


if __name__ == "__main__":
    main()
