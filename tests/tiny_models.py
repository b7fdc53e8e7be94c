"""Small models with random weights and a real tokenizer: the architectures, without their size."""

from __future__ import annotations

from pathlib import Path

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LAYERS, WIDTH, CONTEXT = 4, 32, 4096
SPREAD = 0.3
"""Standard deviation of the weights: at the usual 0.02 a reply is all sampling noise, whatever the model computes."""


def save_tiny(folder: Path, architecture: str, *, chat_template: bool = True) -> Path:
    """Save a model of one of `ARCHITECTURES` into `folder`, float32, with a byte-level tokenizer."""
    import torch

    torch.manual_seed(0)
    tokenizer = byte_tokenizer(CHATML if chat_template else None)
    model = ARCHITECTURES[architecture](len(tokenizer))
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


def _gpt2(vocab: int):
    from transformers import GPT2Config, GPT2LMHeadModel

    spread = {"initializer_range": SPREAD}
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=vocab, n_embd=WIDTH, n_layer=LAYERS, n_head=4, n_positions=CONTEXT, **spread)
    )


def _gemma3(vocab: int):
    from transformers import Gemma3ForCausalLM, Gemma3TextConfig

    # Sliding windows of 8 tokens: shorter than every prompt here, so that the window matters.
    config = Gemma3TextConfig(**_common(vocab), num_key_value_heads=2, head_dim=8, sliding_window=8)
    return Gemma3ForCausalLM(config)


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
    "gpt2": _gpt2,
    "gemma3": _gemma3,
    "qwen3.5-text": _qwen35_text,
    "qwen3.5-image": _qwen35_image,
}
