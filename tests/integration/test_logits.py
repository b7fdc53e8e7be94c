"""Logits that no token can be drawn from, and tokens that a model has no embedding for: faults, and never a reply."""

from __future__ import annotations

from concurrent.futures import Future

import pytest
from support.architectures import edit_weights
from support.tiny_models import CHATML, SPREAD, byte_tokenizer, save_tiny

from capvec.errors import EngineUnavailable, UsageError

pytestmark = pytest.mark.integration

START = 256
"""The token `<|im_start|>`, which begins every message."""
ODD = "~"
"""In no prompt of the proof."""
TOKENS = 4


def load(folder, dtype="float32"):
    from capvec.engines.transformers.models import load_model

    return load_model(str(folder), dtype=dtype, device="cpu")


def rendered(loaded, text):
    return tuple(loaded.render([{"role": "user", "content": text}], prompt=True))


def no_number(name, *rows):
    def edit(weights):
        changed = weights[name].clone()
        changed[list(rows) or ...] = float("nan")
        return weights | {name: changed}

    return edit


def overflowing(weights):
    """A residual at the token that is 400 times too long for float16, as models have massive ones there."""
    import torch

    unit = torch.nn.functional.normalize(torch.randn(32, generator=torch.Generator().manual_seed(5)), dim=0)
    changed = {name: one.clone() for name, one in weights.items()}
    changed["model.embed_tokens.weight"][START] = 60_000 * unit
    for name in ("gate_proj", "up_proj"):
        changed[f"model.layers.0.mlp.{name}.weight"][0] = 5 * unit
    changed["model.layers.0.mlp.down_proj.weight"][:, 0] = 400 * unit
    return changed


@pytest.mark.parametrize(
    ("edit", "dtype", "said"),
    [
        (
            no_number("model.layers.2.mlp.down_proj.weight"),
            "float32",
            r"not finite in torch.float32, from the token .* on, since model\.layers\.2\.mlp\.down_proj\.weight holds",
        ),
        (
            no_number("model.embed_tokens.weight", START),
            "float32",
            r"from the token '<\|im_start\|>' on, since model\.embed_tokens\.weight holds NaN or ∞; get",
        ),
        (
            overflowing,
            "float16",
            r"float16, from the token '<\|im_start\|>' on, since they overflow, though every weight",
        ),
    ],
)
def test_a_model_without_logits_is_refused_when_it_is_loaded(edit, dtype, said, tmp_path, recwarn):
    with pytest.raises(UsageError, match=said):
        load(edit_weights(save_tiny(tmp_path, "llama"), edit), dtype)
    assert not [one for one in recwarn if "degrees of freedom" in str(one.message)]


def test_what_overflows_in_float16_alone_is_served_in_float32(tmp_path):
    assert load(edit_weights(save_tiny(tmp_path, "llama"), overflowing)).n_layers


class Begun:
    """Draws a given token first, as a model might."""

    def __init__(self, token):
        from capvec.engines.transformers.sampling import RowSampler

        self.begin, self.then = [token], RowSampler(0, 0.7)

    def draw(self, logits):
        return self.begin.pop() if self.begin else self.then.draw(logits)


def test_a_reply_that_meets_such_logits_fails_alone(tmp_path):
    from capvec.engines.transformers.decode import Decoder, Request

    whole = load(save_tiny(tmp_path / "whole", "llama"))
    token = whole.tokenizer(ODD)["input_ids"][0]
    broken = load(edit_weights(save_tiny(tmp_path, "llama"), no_number("model.embed_tokens.weight", token)))

    def decoded(loaded, texts, first=None):
        replies = [Future() for _ in texts]
        begun = Decoder(loaded, prefix_bytes=0, sampler=lambda request: Begun(first[len(request.tokens)]))
        for text, reply in zip(texts, replies, strict=True):
            begun.add(Request(rendered(loaded, text), TOKENS, 0, 0.7), reply)
        while begun.rows:
            begun.step()
        return replies

    texts = ["hello there", "one of another length", f"a {ODD}"]
    first = {len(rendered(whole, text)): token if text == texts[1] else 65 for text in texts}
    right = [reply.result().text for reply in decoded(whole, texts[:1], first)]
    alone, begun, read = decoded(broken, texts, first)
    assert alone.result().text == right[0]
    for reply in (begun, read):
        with pytest.raises(EngineUnavailable, match="largest logit is nan"):
            reply.result()


def save_with_rows(folder, rows, *added):
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    LlamaForCausalLM(
        LlamaConfig(vocab_size=rows, initializer_range=SPREAD, eos_token_id=None, **sizes)
    ).save_pretrained(folder)
    tokenizer = byte_tokenizer(CHATML)
    tokenizer.add_tokens(list(added), special_tokens=True)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.mark.parametrize(("rows", "said"), [(256, r"'<\|im_end\|>' as token 257"), (200, "as token 255")])
def test_a_tokenizer_larger_than_the_embedding_is_refused(rows, said, tmp_path):
    with pytest.raises(UsageError, match=f"{said}, and the model embeds {rows} tokens, from 0 on; resize"):
        load(save_with_rows(tmp_path, rows))


def test_a_token_that_no_prompt_needs_fails_the_text_that_has_it(tmp_path):
    """Gemma 3 at 1B has such a token, for images."""
    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch
    from capvec.engines.transformers.decode import Decoder, Request

    loaded, reply = load(save_with_rows(tmp_path, 258, "<image>")), Future()
    decoder = Decoder(loaded, prefix_bytes=0)
    decoder.add(Request(rendered(loaded, "an <image>"), TOKENS, 0, 0.7), reply)
    with pytest.raises(EngineUnavailable, match="'<image>' as token 258, and the model embeds 258 tokens"):
        reply.result()
    talk = [{"role": "user", "content": "an <image>"}]
    with pytest.raises(UsageError, match="or leave this text out"):
        capture_batch(loaded, [prepare(loaded.template, talk, "last", "a trace", most=loaded.context_length)])
