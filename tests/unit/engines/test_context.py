"""How long a conversation a model can be decoded in, by its config."""

from __future__ import annotations

import re

import pytest

pytestmark = pytest.mark.unit

LONGROPE = {"rope_type": "longrope", "short_factor": [1.0] * 4, "long_factor": [4.0] * 4, "rope_theta": 1e4}
DYNAMIC = {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 1e4}


def context_of(model_type, asked=None, positions=None, **config):
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    from capvec.engines import context

    return context.context_of(CONFIG_MAPPING[model_type](**config).get_text_config(decoder=True), asked, positions)


@pytest.mark.parametrize(
    ("model_type", "asked", "config", "length", "why"),
    [
        ("llama", None, {"max_position_embeddings": 900}, 900, ""),
        ("llama", 100, {"max_position_embeddings": 900}, 100, ""),
        ("mamba", None, {}, 4096, ""),
        ("mamba", 9000, {}, 9000, ""),
        ("bloom", 9000, {}, 9000, ""),
        ("mpt", None, {"max_seq_len": 900}, 900, ""),
        ("mpt", 2000, {"max_seq_len": 900}, 900, "limited to 900 of 2000 .* config names no position"),
        ("gptj", 2000, {"n_positions": 900}, 900, "config names no position"),
        ("llama", 2000, {"max_position_embeddings": 900}, 2000, ""),
        ("gemma3_text", None, {"max_position_embeddings": 900}, 900, ""),
        ("llama", None, {"max_position_embeddings": 900, "rope_parameters": DYNAMIC}, 900, ""),
        ("llama", 2000, {"max_position_embeddings": 900, "rope_parameters": DYNAMIC}, 900, r"\(dynamic\)"),
        (
            "llama",
            None,
            {"max_position_embeddings": 900, "rope_parameters": LONGROPE | {"original_max_position_embeddings": 90}},
            90,
            "limited to 90 of 900 tokens: .* rotary frequencies",
        ),
        (
            "gemma3_text",
            2000,
            {
                "max_position_embeddings": 900,
                "rope_parameters": {
                    "full_attention": DYNAMIC,
                    "sliding_attention": {"rope_type": "default", "rope_theta": 1e4},
                },
            },
            900,
            r"\(dynamic\)",
        ),
        ("deepseek_v32", None, {"index_topk": 64}, 64, "attention chooses among"),
        ("deepseek_v32", 60, {"index_topk": 64}, 60, ""),
        ("glm_moe_dsa", None, {"index_topk": 64}, 64, "attention chooses among"),
        ("minimax_m3_vl_text", None, {"index_topk_blocks": 3, "index_block_size": 8}, 24, "attention chooses among"),
    ],
)
def test_the_context_ends_where_tokens_would_be_computed_otherwise(model_type, asked, config, length, why):
    found, said = context_of(model_type, asked, **config)
    assert found == length
    assert re.search(why, said) if why else said == ""


def test_the_context_ends_with_a_table_whatever_the_config_says():
    assert context_of("bloom", positions=900) == (
        900,
        "The context is limited to 900 of 4096 tokens: beyond them, the model's table of positions has no row.",
    )
    assert context_of("gpt2", positions=1024, n_positions=1024) == (1024, "")
