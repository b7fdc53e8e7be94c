"""The flagship's shape with random weights, on a GPU in bfloat16: Qwen3.5-4B's text model, 32 layers of width 2560."""

from __future__ import annotations

from support.tiny_models import CHATML, byte_tokenizer

LAYERS, WIDTH = 32, 2560


def build_flagship(device: str = "cuda"):
    """A `LoadedModel`, as the engine would load it, without a folder: 8 GB would have to be written and read."""
    import torch
    from transformers import Qwen3_5ForCausalLM, Qwen3_5TextConfig

    from capvec.engines.template_probes import inspect_template
    from capvec.engines.transformers.loaded import LoadedModel
    from capvec.engines.transformers.models import find_residual_path

    config = Qwen3_5TextConfig(
        vocab_size=248320,
        hidden_size=WIDTH,
        intermediate_size=9216,
        num_hidden_layers=LAYERS,
        num_attention_heads=16,
        num_key_value_heads=4,
        head_dim=256,
        linear_num_key_heads=16,
        linear_num_value_heads=32,
        layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"] * (LAYERS // 4),
        max_position_embeddings=8192,
    )
    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            model = Qwen3_5ForCausalLM(config)
    finally:
        torch.set_default_dtype(before)
    return LoadedModel(
        model=model.eval().requires_grad_(False),
        template=inspect_template(byte_tokenizer(CHATML), "flagship"),
        path=find_residual_path(model, LAYERS),
        name="flagship",
        revision=None,
        d_model=WIDTH,
        context_length=8192,
        stop_ids=frozenset(),
    )
