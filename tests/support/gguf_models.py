"""A tiny Llama as a GGUF file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

VOCABULARY, WIDTH, INNER, HEADS, BLOCKS = 300, 32, 64, 4, 2


def tensors() -> dict[str, Any]:
    """The tensors of the model, under the names that llama.cpp gives them."""
    import numpy as np

    random = np.random.default_rng(0)
    shapes = {
        "token_embd.weight": (VOCABULARY, WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (VOCABULARY, WIDTH),
    }
    for block in range(BLOCKS):
        parts = {f"attn_{name}": (WIDTH, WIDTH) for name in ("q", "k", "v", "output")}
        parts |= {"attn_norm": (WIDTH,), "ffn_norm": (WIDTH,), "ffn_down": (WIDTH, INNER)}
        parts |= {"ffn_gate": (INNER, WIDTH), "ffn_up": (INNER, WIDTH)}
        shapes |= {f"blk.{block}.{name}.weight": shape for name, shape in parts.items()}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def write_gguf(file: Path, given: Mapping[str, Any]) -> Path:
    """Write these tensors with the settings and the tokenizer of the model. Returns the file."""
    import gguf

    writer = gguf.GGUFWriter(str(file), "llama")
    writer.add_block_count(BLOCKS)
    writer.add_context_length(128)
    writer.add_embedding_length(WIDTH)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_vocab_size(VOCABULARY)
    tokens = [chr(0x100 + number) for number in range(VOCABULARY - 1)]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list([*tokens, tokens[0] + tokens[1]])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges([f"{tokens[0]} {tokens[1]}"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    for name, tensor in given.items():
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file
