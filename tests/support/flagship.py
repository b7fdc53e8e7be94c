"""The flagship's shape with random weights, on a GPU in bfloat16: Qwen3.5-4B's text model, 32 layers of width 2560."""

from __future__ import annotations

import time
from contextlib import contextmanager
from pathlib import Path

from support.tiny_models import CHATML, byte_tokenizer

LAYERS, WIDTH = 32, 2560


def text_config():
    """The text model's config."""
    from transformers import Qwen3_5TextConfig

    return Qwen3_5TextConfig(
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


def build_model(device: str = "cuda"):
    """The model as transformers has it."""
    from transformers import Qwen3_5ForCausalLM

    with _random_bfloat16(device):
        return Qwen3_5ForCausalLM(text_config()).eval().requires_grad_(False)


def build_flagship(device: str = "cuda"):
    """A `LoadedModel`, as the engine would load it, without a folder: 9 GB would have to be written and read."""
    from capvec.engines.template_probes import inspect_template
    from capvec.engines.transformers.loaded import LoadedModel
    from capvec.engines.transformers.models import find_residual_path

    model = build_model(device)
    return LoadedModel(
        model=model,
        template=inspect_template(byte_tokenizer(CHATML), "flagship"),
        path=find_residual_path(model, LAYERS),
        name="flagship",
        revision=None,
        d_model=WIDTH,
        context_length=8192,
        stop_ids=frozenset(),
    )


def save_flagship(folder: Path, device: str = "cuda") -> Path:
    """Save it into `folder` as the hub's Qwen3.5 is, with an image encoder around it (here of one small block)."""
    from transformers import Qwen3_5Config, Qwen3_5ForConditionalGeneration

    vision = {"depth": 1, "hidden_size": 32, "intermediate_size": 32, "num_heads": 2, "num_position_embeddings": 16}
    config = Qwen3_5Config(text_config=text_config().to_dict(), vision_config={**vision, "out_hidden_size": WIDTH})
    with _random_bfloat16(device):
        model = Qwen3_5ForConditionalGeneration(config)
    tokenizer = byte_tokenizer(CHATML)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def save_dense(folder: Path, device: str = "cuda") -> Path:
    """Save a model of Qwen3-4B's shape, whose blocks all have attention over the whole context."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=151936,
        hidden_size=WIDTH,
        intermediate_size=9728,
        num_hidden_layers=36,
        num_attention_heads=32,
        num_key_value_heads=8,
        head_dim=128,
        max_position_embeddings=8192,
        tie_word_embeddings=True,
    )
    with _random_bfloat16(device):
        model = Qwen3ForCausalLM(config)
    tokenizer = byte_tokenizer(CHATML)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@contextmanager
def _random_bfloat16(device: str):
    """What is built inside has random weights in bfloat16 on that device, the same each time."""
    import torch

    torch.manual_seed(0)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with torch.device(device):
            yield
    finally:
        torch.set_default_dtype(before)


def time_saving(shape: str, folder: str) -> float:
    """Seconds to make a model, `flagship` or `dense`, and to write it."""
    started = time.perf_counter()
    {"flagship": save_flagship, "dense": save_dense}[shape](Path(folder))
    return time.perf_counter() - started


def time_generate(rows: list[int], prompt: int, new: int, rounds: int) -> list[dict[str, float]]:
    """Seconds of the first token, and of all, by `generate` of transformers."""
    import torch

    model = build_model()

    def seconds(count: int, tokens: int) -> float:
        ids = torch.randint(250, (count, prompt), device="cuda")
        torch.cuda.synchronize()
        started = time.perf_counter()
        model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            pad_token_id=0,
        )
        torch.cuda.synchronize()
        return time.perf_counter() - started

    found = []
    for count in rows:
        seconds(count, 4)
        found += [{"rows": count, "first": seconds(count, 1), "all": seconds(count, new)} for _ in range(rounds)]
    return found
