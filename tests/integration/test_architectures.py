"""Architectures at a tiny size, each beside a loop without a cache that is written out here."""

from __future__ import annotations

import functools
import random
from concurrent.futures import Future

import pytest
from support.architectures import LAYERS, WIDTH, save_architecture
from support.checked import as_reply, asked, layout_of

from capvec.errors import UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = pytest.mark.integration

CAUSAL = """
afmoe apertus arcee bailing_hybrid bamba bitnet bloom codegen cohere cohere2 cohere2_moe cwm deepseek_v2 deepseek_v3
deepseek_v32 diffllama ernie4_5 ernie4_5_moe exaone4 exaone_moe falcon falcon_h1 falcon_mamba flex_olmo flint gemma
gemma2 gemma3_text gemma4_text glm glm4 glm4_moe glm4_moe_lite glm_moe_dsa gpt2 gpt_bigcode gpt_neo gpt_neox gpt_oss
gptj granite granite_swa granitemoe granitemoe_swa granitemoehybrid granitemoeshared helium hunyuan_v1_dense
hunyuan_v1_moe hy_v3 inkling2_text jamba jetmoe kimi_linear kolibri1 lfm2 lfm2_moe lfm3 llama llama4_text mamba mamba2
mellum mimo_v2_flash minicpm3 minimax_m2 minimax_m3_vl_text ministral ministral3 mistral mixtral modernbert-decoder
mpt nanochat nemotron nemotron_h olmo olmo2 olmo3 olmo_hybrid olmoe opt persimmon phi phi3 phimoe qwen2 qwen2_moe
qwen3 qwen3_5_moe_text qwen3_5_text qwen3_moe qwen3_next seed_oss smollm3 solar_open stablelm starcoder2 vaultgemma
xglm youtu zamba zamba2 zaya
""".split()
IMAGE = """
aria aya_vision gemma3 gemma4 glm4v idefics3 internvl kimi_k25 lfm2_vl llava mistral3 qwen2_5_vl qwen3_5 qwen3_vl
smolvlm
""".split()
REFUSED = {
    "bert": "cannot find the decoder layers of BertLMHeadModel",
    "deepseek_v4": r"without a cache, it fails with SteeringFault \(block 0 gave a tensor of shape",
    "gemma3n_text": r"without a cache, it fails with SteeringFault \(block 0 gave a tensor of shape",
    "minimax": "alone, it fails with ValueError .*cache of its own",
    "openai-gpt": "takes no cache as `past_key_values` or `cache_params`",
    "recurrent_gemma": "is not decoded rightly by this engine: beside a row of another length, its logits are",
    "rwkv": "cannot find the decoder layers of RwkvForCausalLM",
    "trocr": "is not decoded rightly by this engine: beside a row of another length, its logits are",
    "xlstm": "cannot find the decoder layers of xLSTMForCausalLM",
}
"""And why: residuals in several streams, caches of their own, a state on the module, positions counted otherwise."""

PROMPTS = ["so", "what else is there to say?"]
TOKENS = 4
LAYER, ALPHA = LAYERS // 2, 3.0


def load(folder, context_length=None):
    from capvec.engines.transformers.models import load_model

    return load_model(str(folder), dtype="float32", device="cpu", context_length=context_length)


def uncached(loaded, prompt, vector):
    """Greedy tokens, each from a forward pass over everything before it; the vector is added to a block's output."""
    import torch

    def add(_module, _args, output):
        return (output[0] + vector, *output[1:]) if isinstance(output, tuple) else output + vector

    hook = loaded.path.blocks[LAYER].register_forward_hook(add) if vector is not None else None
    tokens = list(prompt)
    with torch.inference_mode():
        while len(tokens) < len(prompt) + TOKENS:
            tokens.append(int(loaded.model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    if hook is not None:
        hook.remove()
    return tokens[len(prompt) :]


def decoded(loaded, rows):
    """Greedy tokens of rows that arrive together, as the engine decodes them."""
    from capvec.engines.transformers.decode import Decoder, Request

    decoder, results = Decoder(loaded, prefix_bytes=1 << 20), []
    for prompt, vector in rows:
        steers = (Steer(LAYER, "d", 1.0),) if vector is not None else ()
        results.append(Future())
        vectors = (vector,) if vector is not None else ()
        decoder.add(Request(tuple(prompt), TOKENS, 0, 0.0, steers=steers, vectors=vectors), results[-1])
    while decoder.rows:
        decoder.step()
    return [result.result(timeout=0).text for result in results]


@pytest.mark.parametrize(
    ("model_type", "image"), [*((name, False) for name in CAUSAL), *((name, True) for name in IMAGE)]
)
def test_an_architecture_gives_what_a_loop_without_a_cache_gives(model_type, image, tmp_path):
    import torch

    loaded = load(save_architecture(tmp_path, model_type, image=image))
    object.__setattr__(loaded, "stop_ids", frozenset())
    vector = ALPHA * torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    prompts = [loaded.render([{"role": "user", "content": text}], prompt=True) for text in PROMPTS]
    rows = [(prompt, steer) for steer in (None, vector) for prompt in prompts]
    tokens = [uncached(loaded, *row) for row in rows]
    assert any(len(set(line)) > 1 for line in tokens)
    expected = [loaded.template.decode(line) for line in tokens]
    assert [decoded(loaded, [row])[0] for row in rows] == expected
    assert decoded(loaded, rows) == expected


GO_ON = """
bailing_hybrid bamba falcon_h1 granitemoehybrid kimi_linear lfm2 lfm2_moe lfm3 mamba2 nemotron_h olmo_hybrid
qwen3_5_moe_text qwen3_5_text qwen3_next zamba2
""".split()
BEGIN_ANEW = "falcon_mamba jamba mamba zamba".split()
"""Whose layers keep states, and which read several tokens from one, or from an empty one whatever the cache holds."""


@pytest.mark.parametrize("model_type", [*GO_ON, *BEGIN_ANEW])
def test_a_next_turn_of_a_model_with_states_computes_its_new_tokens_alone_and_gives_the_same(model_type, tmp_path):
    import torch

    from capvec.engines.transformers.decode import Decoder, Request

    loaded = load(save_architecture(tmp_path, model_type))
    object.__setattr__(loaded, "stop_ids", frozenset())
    vector = ALPHA * torch.randn(WIDTH, generator=torch.Generator().manual_seed(1))
    steers = (Steer(LAYER, "d", 1.0),)
    decoder = Decoder(loaded, prefix_bytes=1 << 22)

    def ask(prompts, vectors):
        results = [Future() for _ in prompts]
        for prompt, result in zip(prompts, results, strict=True):
            decoder.add(Request(tuple(prompt), TOKENS, 0, 0.0, steers=steers, vectors=vectors), result)
        while decoder.rows:
            decoder.step()
        return [result.result(timeout=0) for result in results]

    talks = [[{"role": "user", "content": text}] for text in PROMPTS]
    first = [loaded.render(talk, prompt=True) for talk in talks]
    said = [{"role": "assistant", "content": "ls"}, {"role": "user", "content": "and now?"}]
    then = [loaded.render([*talk, *said], prompt=True) for talk in talks]
    ask(first, (vector,))
    expected = [loaded.template.decode(uncached(loaded, prompt, vector)) for prompt in then]
    for before in (first, then):  # what is kept serves twice
        replies = ask(then, (vector,))
        assert [reply.text for reply in replies] == expected
        reused = [loaded.settled(tuple(prompt)) if model_type in GO_ON else 0 for prompt in before]
        assert [reply.cached_tokens for reply in replies] == reused
        for reply in replies:
            check_receipts(as_reply(reply), asked(steers, [vector]), layout_of(loaded))


@pytest.mark.parametrize("model_type", REFUSED)
def test_what_cannot_be_decoded_is_refused_when_it_is_loaded(model_type, tmp_path):
    with pytest.raises(UsageError, match=REFUSED[model_type]):
        load(save_architecture(tmp_path, model_type))


# ------------------------------------------------------------------------------------------------ a limited context

LIMIT = 48
LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 1e4,
    "short_factor": [1.0] * 4,
    "long_factor": [4.0] * 4,
    "original_max_position_embeddings": LIMIT,
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 4.0}
LIMITED = {
    "phi3": {"rope_parameters": LONGROPE, "original_max_position_embeddings": LIMIT},
    "phimoe": {"rope_parameters": LONGROPE | {"short_mscale": 1.0, "long_mscale": 1.5}},
    "llama": {"rope_parameters": DYNAMIC, "max_position_embeddings": LIMIT},
    "deepseek_v32": {"index_topk": LIMIT},
    "glm_moe_dsa": {"index_topk": LIMIT},
    "minimax_m3_vl_text": {"index_topk_blocks": 6, "index_block_size": 8},
    "mpt": {"max_seq_len": LIMIT},
    "opt": {"max_position_embeddings": LIMIT},
    "gptj": {"n_positions": LIMIT},
}
"""Models that compute a token otherwise, or not at all, in a text of more than `LIMIT` tokens."""


@pytest.mark.parametrize("model_type", LIMITED)
def test_a_context_ends_where_a_longer_one_would_change_the_reply(model_type, tmp_path):
    from starlette.testclient import TestClient

    from capvec.engines.endpoints import build_app
    from capvec.engines.transformers.server import Engine

    loaded = load(save_architecture(tmp_path, model_type, **LIMITED[model_type]), context_length=400)
    assert loaded.context_length == LIMIT
    object.__setattr__(loaded, "stop_ids", frozenset())
    dice = random.Random(0)
    rows = [([dice.randrange(32, 127) for _ in range(length)], None) for length in (7, LIMIT - TOKENS, 20)]
    expected = [loaded.template.decode(uncached(loaded, *row)) for row in rows]
    assert [decoded(loaded, [row])[0] for row in rows] == expected
    assert decoded(loaded, rows) == expected

    http = TestClient(build_app(Engine(loaded, None, "secret")), headers={"Authorization": "Bearer secret"})
    assert f"limited to {LIMIT} of 400 tokens" in http.get("/health").json()["context_limit"]
    messages = [{"role": "user", "content": "x" * LIMIT}]
    answer = http.post("/v1/chat/completions", json={"messages": messages})
    assert answer.json()["error"]["code"] == "context_length_exceeded"


@pytest.mark.parametrize("model_type", ["phi3", "phimoe"])
def test_beyond_that_length_a_reply_would_be_another(model_type, tmp_path):
    loaded = load(save_architecture(tmp_path, model_type, **LIMITED[model_type]))
    object.__setattr__(loaded, "stop_ids", frozenset())
    dice = random.Random(0)
    short, long = (([dice.randrange(32, 127) for _ in range(length)], None) for length in (7, LIMIT + 20))
    assert decoded(loaded, [short, long])[0] != decoded(loaded, [short])[0]


@pytest.mark.parametrize(
    ("model_type", "size"),
    [("gpt2", 512), ("opt", 512), ("codegen", 512), ("ctrl", 512), ("llama", None), ("mpt", None)],
)
def test_a_table_of_positions_is_found_by_what_reads_it(model_type, size, tmp_path):
    from transformers import AutoModelForCausalLM

    from capvec.engines.transformers.tables import table_of_positions

    model = AutoModelForCausalLM.from_pretrained(save_architecture(tmp_path, model_type))
    assert table_of_positions(model) == size


# ------------------------------------------------------------------------------------------------ a wrong decode


def forgets(_model, arguments):
    """The cache under another name, as state-space models have it, is swallowed."""
    arguments["past_key_values"] = None


def sees_padding(_model, arguments):
    arguments["attention_mask"] = None


def counts_padding(_model, arguments):
    mask = arguments["attention_mask"]
    arguments["position_ids"] = arguments["position_ids"] * 0 + mask.shape[1] - 1


def passes_hooks_by(model, _arguments):
    for block in model.model.layers:
        block._forward_hooks.clear()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("fault", "case"),
    [
        (forgets, "alone, its logits"),
        (sees_padding, "beside a row of another length, its logits"),
        (counts_padding, "beside a row of another length, its logits"),
        (passes_hooks_by, "alone, steered, it"),
    ],
)
def test_a_model_that_decodes_wrongly_is_refused_with_the_case(fault, case, dtype, tmp_path, monkeypatch):
    from transformers import LlamaForCausalLM

    from capvec.engines.transformers.models import load_model

    honest = LlamaForCausalLM.forward

    @functools.wraps(honest)
    def forward(self, input_ids, **arguments):
        if input_ids.shape[1] == 1 and arguments.get("use_cache"):
            fault(self, arguments)
        return honest(self, input_ids, **arguments)

    folder = save_architecture(tmp_path, "llama")
    load_model(str(folder), dtype=dtype, device="cpu")
    monkeypatch.setattr(LlamaForCausalLM, "forward", forward)
    with pytest.raises(UsageError, match=case):
        load_model(str(folder), dtype=dtype, device="cpu")


def test_a_model_in_which_rounding_would_hide_a_wrong_decode_is_refused(tmp_path, monkeypatch):
    import torch
    from transformers import LlamaForCausalLM

    from capvec.engines.transformers.models import load_model

    honest, calls = LlamaForCausalLM.forward, []

    @functools.wraps(honest)
    def noisy(self, *arguments, **named):
        output = honest(self, *arguments, **named)
        calls.append(output.logits)
        output.logits = torch.randn(output.logits.shape, generator=torch.Generator().manual_seed(len(calls)))
        return output

    folder = save_architecture(tmp_path, "llama")
    monkeypatch.setattr(LlamaForCausalLM, "forward", noisy)
    with pytest.raises(UsageError, match=r"rounding alone moves its logits by 1\.4 of their spread"):
        load_model(str(folder), dtype="float32", device="cpu")
