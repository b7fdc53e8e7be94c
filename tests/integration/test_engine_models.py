"""The engine on real architectures with small random weights: loading, batching, steering, capture."""

from __future__ import annotations

from concurrent.futures import Future

import numpy as np
import pytest
from support.architectures import edit_weights
from support.checked import as_reply, asked, layout_of
from support.tiny_models import ARCHITECTURES, LAYERS, WIDTH, load_tiny, save_tiny

from capvec.errors import UsageError
from capvec.receipts import check_receipts
from capvec.steering import Steer

pytestmark = pytest.mark.integration

PROMPTS = ["short", "a somewhat longer prompt than the first", "a prompt " * 12, "and one more of medium length"]


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def directions():
    import torch

    return torch.as_tensor(np.random.default_rng(0).standard_normal((LAYERS, WIDTH)).astype(np.float32))


def request_for(loaded, directions, index, steers=()):
    from capvec.engines.transformers.decode import Request

    ids = loaded.render([{"role": "user", "content": PROMPTS[index]}], prompt=True)
    vectors = tuple(directions[steer.layer] for steer in steers)
    return Request(tuple(ids), 12, seed=index, temperature=0.8, steers=tuple(steers), vectors=vectors)


def decode(loaded, requests, stagger=0):
    """Completions of requests that share a decoder, each joining `stagger` steps after the one before."""
    from capvec.engines.transformers.decode import Decoder

    decoder = Decoder(loaded, prefix_bytes=1 << 20)
    results = []
    for request in requests:
        results.append(Future())
        decoder.add(request, results[-1])
        for _ in range(stagger):
            decoder.step()
    while decoder.rows:
        decoder.step()
    return [result.result(timeout=0) for result in results]


def mixed_steers():
    return [(), (Steer(1, "d", 2.0),), (Steer(0, "d", -1.0), Steer(3, "d", 0.5)), (Steer(2, "d", 0.0),)]


@pytest.mark.parametrize("stagger", [0, 3])
def test_a_row_of_a_batch_gives_what_the_request_gives_alone(loaded, directions, stagger):
    requests = [request_for(loaded, directions, i, steers) for i, steers in enumerate(mixed_steers())]
    together = decode(loaded, requests, stagger)
    alone = [decode(loaded, [request])[0] for request in requests]
    assert [reply.text for reply in together] == [reply.text for reply in alone]
    for request, a, b in zip(requests, together, alone, strict=True):
        check_receipts(as_reply(a), asked(request.steers, request.vectors), layout_of(loaded))
        assert a.isolation.watched >= b.isolation.watched
        for x, y in zip(a.receipts, b.receipts, strict=True):
            assert x.shift_mean == pytest.approx(y.shift_mean, abs=1e-4)
            assert (x.fired, x.forwards, x.passed) == (y.fired, y.forwards, y.passed)


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_a_packed_model_answers_as_it_does_unpacked(architecture, directions, tmp_path):
    from capvec.engines.transformers.models import load_model
    from capvec.engines.transformers.packed import PackedLinear

    folder = edit_weights(
        save_tiny(tmp_path, architecture),
        lambda weights: {name: one.bfloat16().to(one.dtype) for name, one in weights.items()},
    )
    plain, packed = (load_model(str(folder), dtype="float32", device="cpu", packed=flag) for flag in (False, True))
    assert any(isinstance(one, PackedLinear) for one in packed.model.modules())
    answers = []
    for loaded in (plain, packed):
        requests = [request_for(loaded, directions, i, steers) for i, steers in enumerate(mixed_steers())]
        answers.append(decode(loaded, requests))
        for request, reply in zip(requests, answers[-1], strict=True):
            check_receipts(as_reply(reply), asked(request.steers, request.vectors), layout_of(loaded))
    assert [reply.text for reply in answers[0]] == [reply.text for reply in answers[1]]


@pytest.mark.parametrize(("waste", "batches"), [(10**6, 1), (60, 2), (-1, 4)])
def test_rows_of_unlike_length_decode_apart_and_give_the_same(loaded, directions, waste, batches, monkeypatch):
    from capvec.engines.transformers import caches
    from capvec.engines.transformers import decode as decoding

    monkeypatch.setattr(decoding, "WASTE", waste)
    requests = [request_for(loaded, directions, i, steers) for i, steers in enumerate(mixed_steers())]
    # The three shorter prompts are near each other, the longest is not.
    *_, third, longest = sorted(len(request.tokens) for request in requests)
    assert longest - third > 60
    assert third - min(len(request.tokens) for request in requests) <= 35
    decoder, results = decoding.Decoder(loaded, prefix_bytes=0), []
    for request in requests:
        results.append(Future())
        decoder.add(request, results[-1])
    if caches.joinable(caches.new_cache(loaded.model.config)):
        assert len(decoder._groups) == batches
    while decoder.rows:
        decoder.step()
    alone = [decode(loaded, [request])[0] for request in requests]
    assert [result.result(timeout=0).text for result in results] == [reply.text for reply in alone]


def test_every_receipt_shows_its_steer_at_every_layer(loaded, directions):
    steers = tuple(Steer(layer, "d", 1.5) for layer in range(LAYERS))
    reply = decode(loaded, [request_for(loaded, directions, 1, steers)])[0]
    for receipt, vector in zip(reply.receipts, directions, strict=True):
        assert receipt.shift_mean == pytest.approx(1.5 * float(vector.norm()), rel=1e-4)
    check_receipts(as_reply(reply), asked(steers, directions), layout_of(loaded))


def test_steering_changes_the_reply_and_alpha_zero_does_not(loaded, directions):
    plain, zero, strong = (
        decode(loaded, [request_for(loaded, directions, 2, steers)])[0].text
        for steers in ((), (Steer(1, "d", 0.0),), (Steer(1, "d", 8.0),))
    )
    assert zero == plain
    assert strong != plain


def test_a_conversation_that_goes_on_gives_the_same_with_and_without_reuse(loaded, directions):
    """The second turn under the same steers reuses the first one's cache; under other steers it must not."""
    from capvec.engines.transformers.decode import Decoder, Request

    steers = (Steer(0, "d", 3.0),)
    first = request_for(loaded, directions, 2, steers)
    decoder = Decoder(loaded, prefix_bytes=1 << 24)

    def ask(request):
        result = Future()
        decoder.add(request, result)
        while decoder.rows:
            decoder.step()
        return result.result(timeout=0)

    ask(first)
    more = first.tokens + tuple(loaded.tokenizer("and then?")["input_ids"])
    for under in (steers, ()):
        second = Request(
            more, 8, seed=5, temperature=0.8, steers=under, vectors=tuple(directions[s.layer] for s in under)
        )
        warm, cold = ask(second), decode(loaded, [second])[0]
        assert warm.text == cold.text
        hybrid = "Qwen3_5" in type(loaded.model).__name__  # a linear layer's state cannot be cut back
        start = loaded.settled(first.tokens) if hybrid else len(first.tokens)
        assert (warm.cached_tokens >= start) == bool(under)
        check_receipts(as_reply(warm), asked(under, [directions[0]] * len(under)), layout_of(loaded))


def test_vision_blocks_are_never_taken_for_decoder_layers(loaded):
    names = {id(module): name for name, module in loaded.model.named_modules()}
    assert all("visual" not in names[id(block)] for block in loaded.path.blocks)
    assert loaded.path.end is not None


def test_a_model_whose_layers_are_not_found_is_refused_with_what_was_looked_for():
    import torch

    from capvec.engines.transformers.models import find_residual_path

    model = torch.nn.ModuleDict({"tower": torch.nn.ModuleList([torch.nn.Linear(1, 1)])})
    with pytest.raises(UsageError, match=r"looked for 7 modules .* at model\.language_model\.layers.*tower \(1\)"):
        find_residual_path(model, 7)


def test_a_tokenizer_without_a_chat_template_is_refused(tmp_path):
    from capvec.engines.transformers.models import load_model

    with pytest.raises(UsageError, match="no chat template"):
        load_model(str(save_tiny(tmp_path, "llama", chat_template=None)))


def test_a_folder_that_is_no_model_is_refused(tmp_path):
    from capvec.engines.transformers.models import load_model

    with pytest.raises(UsageError, match="cannot load the model"):
        load_model(str(tmp_path))


def test_a_full_store_lets_go_of_what_was_used_least_recently(loaded, monkeypatch):
    from capvec.engines.transformers import caches
    from capvec.engines.transformers.caches import PrefixStore, croppable, new_cache
    from capvec.engines.transformers.loaded import forward

    def cached(tokens):
        import torch

        cache = new_cache(loaded.model.config)
        with torch.inference_mode():
            forward(loaded.model, input_ids=torch.tensor([tokens]), past_key_values=cache)
        return cache

    first = cached([1, 2, 3, 4])
    if not croppable(first):
        pytest.skip("of a hybrid model, a start is kept beside those that it begins with")
    size = sum(layer.keys.nbytes + layer.values.nbytes for layer in first.layers)
    store = PrefixStore(2 * size)
    for start in (1, 5, 9):
        store.keep((), [start, 2, 3, 4], cached([start, 2, 3, 4]))
    assert [store.find((), [start, 2, 3, 4, 5])[1] for start in (1, 5, 9)] == [0, 4, 4]
    monkeypatch.setattr(caches, "MAX_PREFIXES", 1)
    store.keep((), [7, 2, 3, 4], cached([7, 2, 3, 4]))
    assert [store.find((), [start, 2, 3, 4, 5])[1] for start in (5, 9, 7)] == [0, 0, 4]
