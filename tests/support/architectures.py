"""Any architecture of transformers at a tiny size with random weights, by one set of sizes under all their names."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

from support.tiny_models import CHATML, SPREAD, byte_tokenizer

WIDTH, LAYERS, VOCABULARY, END = 32, 4, 258, 257

SIZES: dict[str, Any] = {
    # The token ids are those of the tokenizer of `tiny_models`, and no weights are shared: a model with one matrix for
    # both ends repeats its last token.
    **{"vocab_size": VOCABULARY, "vocab_size_per_layer_input": VOCABULARY, "tie_word_embeddings": False},
    **{"pad_token_id": END, "bos_token_id": END, "eos_token_id": END},
    # width and depth
    **dict.fromkeys(("hidden_size", "d_model", "n_embd", "embed_dim", "word_embed_proj_dim", "lru_width"), WIDTH),
    **dict.fromkeys(("embedding_size", "out_hidden_size", "model_dim", "projection_dim"), WIDTH),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "decoder_ffn_dim", "n_inner", "ffn_hidden_size", "dff"), 64),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "decoder_layers", "depth"), LAYERS),
    **dict.fromkeys(("max_position_embeddings", "n_positions", "max_seq_len", "n_ctx"), 512),
    "hidden_size_per_layer_input": 8,
    # attention
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "decoder_attention_heads"), 4),
    **{"num_key_value_heads": 2, "head_dim": 8, "rotary_dim": 4, "num_kv_shared_layers": 2},
    **dict.fromkeys(("sliding_window", "attention_chunk_size", "attention_window_size"), 8),
    **{"q_lora_rank": 16, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8, "v_head_dim": 8},
    **{"index_head_dim": 8, "index_n_heads": 2, "index_topk": 64},
    # experts
    **dict.fromkeys(("num_experts", "num_local_experts", "n_routed_experts"), 4),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size"), 16),
    **{"num_experts_per_tok": 2, "n_group": 1, "topk_group": 1},
    # states
    **dict.fromkeys(("state_size", "ssm_state_size", "mamba_d_state", "mamba_head_dim", "mamba_d_head"), 8),
    **dict.fromkeys(("num_heads", "mamba_n_heads", "mamba_num_heads"), 8),
    **dict.fromkeys(("n_groups", "mamba_n_groups", "n_mamba_heads", "mamba_ngroups"), 1),
    **{"mamba_d_ssm": 64, "mamba_expand": 2, "mamba_dt_rank": 4, "mamba_headdim": 8, "linear_head_dim": 8},
    **{"linear_key_head_dim": 8, "linear_value_head_dim": 8, "linear_num_key_heads": 2, "linear_num_value_heads": 4},
    # images
    **{"image_size": 16, "patch_size": 8},
}
"""For the keys that a config has. Windows are shorter than the tests' prompts."""

LATENT: dict[str, Any] = {"num_key_value_heads": 4}
"""Multi-head latent attention has a key and a value for each head."""
ROTARY_LATENT = LATENT | {"head_dim": 4}
ROTARY_LATENT_TEXT = {"text_config": ROTARY_LATENT}
MIXED = {"layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"]}
CONVOLUTIONS = {"layer_types": ["conv", "full_attention", "conv", "full_attention"]}
SECTIONS = {"text_config": {"rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "mrope_section": [2, 1, 1]}}}

OVER: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("deepseek_v2", "glm4_moe_lite", "minicpm3", "bailing_hybrid", "kimi_linear"), LATENT),
    **dict.fromkeys(("deepseek_v3", "axk1", "youtu"), ROTARY_LATENT),
    **dict.fromkeys(("deepseek_v32", "glm_moe_dsa", "axk2"), LATENT),
    **dict.fromkeys(("granitemoehybrid", "olmo_hybrid"), MIXED),
    **dict.fromkeys(("lfm2", "lfm2_moe"), CONVOLUTIONS),
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "glm4v", "glm46v", "glm_ocr", "paddleocr_vl"), SECTIONS),
    **dict.fromkeys(("mistral_large4", "kimi_k25"), ROTARY_LATENT_TEXT),
    "bamba": {"attn_layer_indices": [2]},
    "dots1": {"n_shared_experts": 1},
    "jamba": {"attn_layer_period": 2, "attn_layer_offset": 1},
    "mamba2": {"head_dim": 8},
    "zamba2": {
        "layers_block_type": ["linear_attention", "hybrid", "linear_attention", "hybrid"],
        "n_mamba_heads": 8,
    },
    "zaya": {"num_experts_per_tok": 1},
}
"""Sizes of single model types that differ."""


def tiny_config(config_class: Any, **over: Any) -> Any:
    """The config with `SIZES`, sub-configs of text and images included."""
    usual = config_class()
    has = set(usual.to_dict()) | set(inspect.signature(config_class.__init__).parameters)
    given = {name: value for name, value in SIZES.items() if name in has}
    kinds = getattr(usual, "layer_types", None)
    if kinds is not None and "layer_types" in has:
        given["layer_types"] = (list(dict.fromkeys(kinds)) * LAYERS)[:LAYERS]
    for name, sub in config_class.sub_configs.items():
        if inspect.isclass(sub) and getattr(usual, name, None) is not None:
            given[name] = tiny_config(type(getattr(usual, name)), **over.pop(name, {})).to_dict()
    return config_class(**given | over)


def save_architecture(folder: Path, model_type: str, *, image: bool = False, **over: Any) -> Path:
    """Save a model of a type that transformers knows, float32, with a byte-level tokenizer; `over` is of its config."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    torch.manual_seed(0)
    config = tiny_config(CONFIG_MAPPING[model_type], **OVER.get(model_type, {}) | over)
    classes = AutoModelForImageTextToText if image else AutoModelForCausalLM
    with torch.device("meta"):
        size = sum(one.numel() for one in classes.from_config(config).parameters())
    assert size < 5_000_000, f"a tiny {model_type} has {size} parameters; add its sizes"
    model = classes.from_config(config)
    for parameter in model.parameters():
        if parameter.ndim > 1:
            parameter.data.normal_(0, SPREAD)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = END, None
    model.save_pretrained(folder)
    byte_tokenizer(CHATML).save_pretrained(folder)
    return folder


def edit_weights(folder: Path, edit: Callable[[dict[str, Any]], dict[str, Any]]) -> Path:
    """Replace the weights of a saved model, tensors by name."""
    from safetensors.torch import load_file, save_file

    file = folder / "model.safetensors"
    save_file(edit(load_file(file)), file, metadata={"format": "pt"})
    return folder
