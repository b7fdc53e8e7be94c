"""Captured residuals, on real architectures with small weights: of which tokens, in which batch, and what is kept."""

from __future__ import annotations

import gc
import time
import weakref
from concurrent.futures import Future
from dataclasses import replace
from itertools import pairwise
from typing import ClassVar

import pytest
from support.tiny_models import ARCHITECTURES, LAYERS, WIDTH, load_tiny

from capvec.errors import UsageError

pytestmark = pytest.mark.integration

POOLINGS = ("last", "last-assistant", "mean-assistant", "mean-last:7")
TALK = [
    {"role": "system", "content": "be brief"},
    {"role": "user", "content": "look"},
    {"role": "assistant", "content": "at this"},
    {"role": "user", "content": "at this"},
    {"role": "assistant", "content": "done"},
]
LENGTHS = (70, 3, 41, 9, 120)
EPS = 2.0**-23


@pytest.fixture(scope="module", params=ARCHITECTURES)
def loaded(request, tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("model"), request.param)


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return load_tiny(tmp_path_factory.mktemp("model"), "llama")


def talk(length):
    """A conversation whose text changes on its way, so that no two positions read the same."""
    words = "".join(f"{number} " for number in range(length))[:length]
    return [{"role": "user", "content": words}, {"role": "assistant", "content": words[::-1] + "."}]


def capture(loaded, messages, pooling="last"):
    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch

    one = prepare(loaded.template, messages, pooling, "it", most=loaded.context_length)
    return capture_batch(loaded, [one])[0], one


def hidden_states(loaded, ids):
    """transformers' own record, `[layers + 1, positions, d_model]`; its last is after the final norm."""
    import torch

    with torch.inference_mode():
        output = loaded.model(input_ids=torch.tensor([ids]), output_hidden_states=True, use_cache=False)
    return torch.cat(output.hidden_states)


def positions(loaded, pooling):
    """Where `TALK` is pooled, by rendering its starts: a generation prompt ends where a reply begins."""
    spans = []
    for index, message in enumerate(TALK):
        if message["role"] == "assistant":
            start = len(loaded.render(TALK[:index], prompt=True))
            spans.append(range(start, start + len(message["content"])))  # a token is a byte
    whole = len(loaded.render(TALK, prompt=False))
    return {
        "last": [whole - 1],
        "last-assistant": [spans[-1][-1]],
        "mean-assistant": [position for span in spans for position in span],
        "mean-last:7": list(range(whole - 7, whole)),
    }[pooling]


@pytest.mark.parametrize("pooling", POOLINGS)
def test_a_pooled_residual_is_the_mean_of_the_hidden_states_it_names(loaded, pooling):
    import torch

    residuals, one = capture(loaded, TALK, pooling)
    assert residuals.shape == (LAYERS, WIDTH)
    assert residuals.dtype == torch.float32
    assert (one.tokens, one.truncated) == (len(one.ids), 0)
    states = hidden_states(loaded, one.ids)
    expected = states[1:, positions(loaded, pooling)].double().mean(dim=1).float()
    for layer in range(LAYERS - 1):
        torch.testing.assert_close(residuals[layer], expected[layer], atol=1e-5, rtol=1e-5)


def test_the_last_layer_is_the_blocks_output_and_not_the_final_norms(loaded):
    import torch

    residuals, one = capture(loaded, TALK)
    normed = hidden_states(loaded, one.ids)[-1, -1]
    assert not torch.allclose(residuals[-1], normed, atol=1e-3)
    torch.testing.assert_close(loaded.path.end(residuals[-1]), normed, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("padding", ["left", "right"])
def test_a_batch_gives_what_each_conversation_gives_alone_whichever_side_is_padded(loaded, padding):
    """Rounding apart: sums over at most n = 256 terms (positions of a row, or the width of a layer) in another order.

    Such a sum is off by at most n·ε of its terms' size, so a layer, which has fewer than ten of them in a row, moves
    the residual by less than 10·n·ε of its length, and so do all `LAYERS` together by less than `LAYERS` times that.
    """
    import torch

    from capvec.engines.prepared import prepare
    from capvec.engines.transformers.capture import capture_batch

    batch = [
        prepare(loaded.template, talk(length), pooling, "it", most=loaded.context_length)
        for length in LENGTHS
        for pooling in ("mean-last:1000", "last")
    ]
    together = capture_batch(loaded, batch, padding=padding)
    alone = torch.cat([capture_batch(loaded, [one]) for one in batch])
    bound = LAYERS * 10 * 256 * EPS
    off = torch.linalg.vector_norm(together - alone, dim=-1) / torch.linalg.vector_norm(alone, dim=-1)
    assert float(off.max()) < bound
    # The bound can tell conversations apart, once a layer sees beyond a sliding window of 8.
    last = alone[:, -1]
    others = torch.linalg.vector_norm(last[2:] - last[:-2], dim=-1) / torch.linalg.vector_norm(last[2:], dim=-1)
    assert float(others.min()) > 10 * bound


def test_a_conversation_that_waits_for_a_reply_is_captured_where_the_reply_begins(loaded):
    import torch

    residuals, one = capture(loaded, TALK[:2])
    assert list(one.ids) == loaded.render(TALK[:2], prompt=True)
    assert len(one.ids) > len(loaded.render(TALK[:2], prompt=False))
    torch.testing.assert_close(residuals[0], hidden_states(loaded, one.ids)[1, -1], atol=1e-5, rtol=1e-5)


def test_a_conversation_longer_than_the_context_loses_its_left_and_says_how_much(loaded):
    import torch

    messages = talk(100)
    whole = loaded.render(messages, prompt=False)
    residuals, one = capture(replace(loaded, context_length=64), messages, "mean-assistant")
    assert (one.tokens, one.truncated) == (len(whole), len(whole) - 64)
    assert list(one.ids) == whole[-64:]
    # The reply has 101 letters, and after it the template writes one token and a new line: 62 of them are left.
    assert one.truncated_assistant == 101 - 62
    assert one.chosen == tuple(range(62))
    expected = hidden_states(loaded, one.ids)[1, :62].double().mean(dim=0).float()
    torch.testing.assert_close(residuals[0], expected, atol=1e-5, rtol=1e-5)


def test_no_logits_are_made_beyond_one_position_and_no_cache(loaded):
    seen = []
    handle = loaded.model.register_forward_hook(lambda _module, _args, output: seen.append(output))
    try:
        capture(loaded, talk(50))
    finally:
        handle.remove()
    (output,) = seen
    assert output.logits.shape[:2] == (1, 1)
    assert output.past_key_values is None


def test_what_is_kept_does_not_grow_with_the_conversation(loaded):
    """While the forward pass runs, every block's output is let go as soon as the next block has taken it."""
    import torch

    from capvec.engines.transformers.hooks import record

    alive = []

    def watch(_module, _args, output):
        alive.append(weakref.ref(output[0] if isinstance(output, tuple) else output))

    def kept_bytes(length):
        alive.clear()
        ids = torch.arange(length)[None] % 100
        handles = [block.register_forward_hook(watch) for block in loaded.path.blocks]
        try:
            # No inference mode: a graph would keep every block's output, so nothing recorded may hold on to it.
            with record(loaded.path, torch.ones_like(ids, dtype=torch.bool)) as kept:
                loaded.model(input_ids=ids, use_cache=False, logits_to_keep=1)
                gc.collect()
                assert [reference() is None for reference in alive] == [True] * LAYERS
        finally:
            for handle in handles:
                handle.remove()
        assert all(tensor.grad_fn is None and not tensor.requires_grad for tensor in kept)
        return sum(tensor.untyped_storage().nbytes() for tensor in kept)

    assert kept_bytes(16) == kept_bytes(512) == LAYERS * WIDTH * 4


class TestConversationsWithoutAToken:
    """Of the assistant's, where the pooling needs one."""

    REFUSED: ClassVar = [
        ([{"role": "user", "content": "hello"}], "no assistant message of it says anything"),
        ([{"role": "user", "content": "hello"}, {"role": "assistant", "content": " \n"}], "says anything"),
        ([*TALK, {"role": "user", "content": "x" * 5000}], r"all of it is among the \d+ tokens cut to fit .* 4096"),
    ]

    @pytest.mark.parametrize("pooling", ["last-assistant", "mean-assistant"])
    @pytest.mark.parametrize(("messages", "why"), REFUSED)
    def test_are_refused_by_name(self, llama, messages, pooling, why):
        from capvec.engines.prepared import prepare

        with pytest.raises(UsageError, match=rf"trace 7: no assistant token to pool \({pooling}\): .*{why}"):
            prepare(llama.template, messages, pooling, "trace 7", most=llama.context_length)

    @pytest.mark.parametrize("messages", [messages for messages, _ in REFUSED])
    def test_can_be_captured_by_other_poolings(self, llama, messages):
        from capvec.engines.prepared import prepare

        assert len(prepare(llama.template, messages, "last", "it", most=llama.context_length).chosen) == 1


def test_mean_last_of_more_tokens_than_there_are_takes_them_all(llama):
    _, one = capture(llama, TALK, "mean-last:100000")
    assert one.chosen == tuple(range(len(one.ids)))


def test_replies_in_flight_wait_for_one_batch_and_not_for_all(llama, monkeypatch):
    """A token is drawn between any batch of a capture and the next."""
    from starlette.testclient import TestClient

    from capvec.engines.endpoints import build_app
    from capvec.engines.transformers.capture import Limits
    from capvec.engines.transformers.decode import Request
    from capvec.engines.transformers.scheduler import Scheduler
    from capvec.engines.transformers.server import Engine

    monkeypatch.setattr(Limits, "of", lambda _: Limits(budget=1, overhead=0))  # each conversation is a batch
    scheduler = Scheduler(replace(llama, stop_ids=frozenset()), max_rows=4, prefix_bytes=0)
    drawn = []

    class Counting:
        def call(self, work):
            def job():
                drawn.append(len(scheduler._decoder._groups[0].rows[0].generated))
                return work()

            return scheduler.call(job)

    try:
        ids = llama.render([{"role": "user", "content": "go on"}], prompt=True)
        reply = scheduler.generate(Request(tuple(ids), 100_000, seed=0, temperature=1.0))
        http = TestClient(build_app(Engine(llama, Counting(), "secret")))
        headers = {"Authorization": "Bearer secret"}
        answer = http.post("/v1/capture", json={"conversations": [TALK] * 6}, headers=headers)
        assert answer.status_code == 200
        assert len(drawn) == 6
        assert all(before < after for before, after in pairwise(drawn))
        assert not reply.done()
    finally:
        scheduler.close()


def test_a_reply_that_is_given_up_leaves_the_batch_and_the_others_go_on(llama):
    from capvec.engines.transformers.decode import Decoder, Request

    decoder = Decoder(replace(llama, stop_ids=frozenset()), prefix_bytes=0)
    given_up, kept = Future(), Future()
    for result in (given_up, kept):
        decoder.add(Request((5, 6, 7), 4, seed=0, temperature=1.0), result)
    given_up.set_exception(TimeoutError())
    decoder.step()
    assert decoder.rows == 1
    while decoder.rows:
        decoder.step()
    assert kept.result().completion_tokens == 4


def test_an_engine_without_work_forgets_the_starts_of_conversations(llama):
    from capvec.engines.transformers.decode import Request
    from capvec.engines.transformers.scheduler import Scheduler

    scheduler = Scheduler(llama, max_rows=4, prefix_bytes=1 << 24, idle_s=0.3)
    try:

        def reused() -> int:
            return scheduler.generate(Request((5, 6, 7, 8), 1, seed=0, temperature=1.0)).result().cached_tokens

        assert [reused(), reused()] == [0, 3]
        time.sleep(1.5)
        assert reused() == 0
    finally:
        scheduler.close()
