"""Small models with random weights and a real tokenizer: real architectures at a small size."""

from __future__ import annotations

from pathlib import Path

import numpy as np

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, WIDTH, CONTEXT = 4, 32, 4096
VECTORS = np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32)
"""A vector for each layer."""
SPREAD = 0.3
"""Standard deviation of the weights. At the usual 0.02 a reply is sampling noise, independent of the prompt."""


def save_tiny(folder: Path, architecture: str, *, chat_template: str | None = CHATML) -> Path:
    """Save a model of one of `ARCHITECTURES` into `folder`, float32, with a byte-level tokenizer."""
    import torch

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(chat_template)
    model = ARCHITECTURES[architecture](len(tokenizer))
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def load_tiny(folder: Path, architecture: str):
    """A model of one of `ARCHITECTURES`, saved into `folder` and loaded as the engine does."""
    from capvec.engines.transformers.models import load_model

    return load_model(str(save_tiny(folder, architecture)), dtype="float32", device="cpu")


def save_reciting(folder: Path, tokenizer, prompt: list[int], text: str) -> Path:
    """Save a model that answers a prompt of that length with `text`, at temperature 0, whatever the prompt says.

    Its blocks add nothing, so that the position alone decides the next token.
    """
    import torch
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=len(tokenizer), n_embd=512, n_layer=2, n_head=4, n_positions=1024, tie_word_embeddings=False
        )
    )
    said = tokenizer(text, add_special_tokens=False)["input_ids"] + [tokenizer.eos_token_id]
    with torch.no_grad():
        for weights in (*model.transformer.h.parameters(), model.transformer.wte.weight, model.lm_head.weight):
            weights.zero_()
        places = torch.nn.init.normal_(model.transformer.wpe.weight)
        for index, token in enumerate(said):
            model.lm_head.weight[token] += places[len(prompt) - 1 + index]
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def byte_tokenizer(template: str | None):
    """One token for each byte, and a chat template."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    inner = Tokenizer(models.BPE(vocab={letter: index for index, letter in enumerate(alphabet)}, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    inner.add_special_tokens(["<|im_start|>", "<|im_end|>"])
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, eos_token="<|im_end|>", pad_token="<|im_end|>")
    tokenizer.chat_template = template
    return tokenizer


def _llama(vocab: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_common(vocab), num_key_value_heads=2))


def _llama_32(vocab: int):
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(LlamaConfig(**_common(vocab), num_key_value_heads=2, head_dim=32))


def _gpt2(vocab: int):
    from transformers import GPT2Config, GPT2LMHeadModel

    spread = {"initializer_range": SPREAD}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, **spread)
    )


def _gemma3(vocab: int):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    # Sliding windows of 8 tokens: shorter than every prompt here, so that the window matters.
    kinds = ["sliding_attention", "sliding_attention", "sliding_attention", "full_attention"]
    config = Gemma3TextConfig(**_common(vocab), num_key_value_heads=2, head_dim=8, sliding_window=8, layer_types=kinds)
    return Gemma3ForCausalLM(config)


def _gemma2(vocab: int):
    from transformers import Gemma2Config, Gemma2ForCausalLM

    config = Gemma2Config(**_common(vocab), num_key_value_heads=2, head_dim=8, sliding_window=8)
    return Gemma2ForCausalLM(config)


def _qwen3(vocab: int):
    from transformers import Qwen3Config, Qwen3ForCausalLM

    return Qwen3ForCausalLM(Qwen3Config(**_common(vocab), num_key_value_heads=2, head_dim=8))


def _mistral(vocab: int):
    from transformers import MistralConfig, MistralForCausalLM

    return MistralForCausalLM(MistralConfig(**_common(vocab), num_key_value_heads=2, sliding_window=8))


def _gpt_neox(vocab: int):
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    return GPTNeoXForCausalLM(GPTNeoXConfig(**_common(vocab)))


def _qwen3_moe(vocab: int):
    from transformers import Qwen3MoeConfig, Qwen3MoeForCausalLM

    experts = {"num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**_common(vocab), num_key_value_heads=2, head_dim=8, **experts))


def _qwen35_text(vocab: int):
    from transformers import Qwen3_5ForCausalLM

    return Qwen3_5ForCausalLM(_qwen35_text_config(vocab))


def _qwen35_image(vocab: int):
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    vision = {
        "depth": LAYERS,  # as many blocks as the decoder has layers: a search by length alone would find these
        "hidden_size": 16,
        "intermediate_size": 32,
        "num_heads": 2,
        "out_hidden_size": WIDTH,
        "patch_size": 4,
        "deepstack_visual_indexes": [],
    }
    config = Qwen3_5Config(text_config=_qwen35_text_config(vocab).to_dict(), vision_config=vision)
    return Qwen3_5ForConditionalGeneration(config)


def _qwen35_text_config(vocab: int):
    from transformers import Qwen3_5TextConfig

    return Qwen3_5TextConfig(
        **_common(vocab),
        num_key_value_heads=2,
        head_dim=8,
        linear_key_head_dim=8,
        linear_value_head_dim=8,
        linear_num_key_heads=2,
        linear_num_value_heads=4,
        layer_types=["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    )


def _common(vocab: int) -> dict[str, float]:
    return {
        "vocab_size": vocab,
        "hidden_size": WIDTH,
        "intermediate_size": 64,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 4,
        "max_position_embeddings": CONTEXT,
        "initializer_range": SPREAD,
    }


ARCHITECTURES = {
    "llama": _llama,
    "llama-32": _llama_32,
    "qwen3": _qwen3,
    "qwen3-moe": _qwen3_moe,
    "mistral": _mistral,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gpt2": _gpt2,
    "gpt-neox": _gpt_neox,
    "qwen3.5-text": _qwen35_text,
    "qwen3.5-image": _qwen35_image,
}
