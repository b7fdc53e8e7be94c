"""What a worker answers of its requests: each once, in the order of the steers, from what the device measured."""

from __future__ import annotations

import numpy as np
import pytest
from support.worker import LAYERS, N_LAYERS, Worker

from capvec.engines.vllm.measured import receipts
from capvec.steering import Steer, vector_hash

pytestmark = pytest.mark.unit

WIDTH, PROMPT = 32, 5
VECTORS = np.random.default_rng(0).normal(size=(N_LAYERS, WIDTH)).astype("<f4")


@pytest.fixture
def worker():
    return Worker(WIDTH)


@pytest.fixture
def answers(worker):
    from torch import nn

    from capvec.engines.vllm.plugin.answers import Answers
    from capvec.engines.vllm.plugin.blocks import Blocks, hook

    class Block(nn.Module):
        def forward(self, hidden_states, residual):
            """Never called here."""

    modules = [Block() for _ in range(N_LAYERS)]
    end = Block()
    named = [*((f"layers.{number}", module) for number, module in enumerate(modules)), ("norm", end)]
    hooks = [(name, of) for name, one in named for of in (one._forward_hooks, one._forward_pre_hooks)]
    blocks = Blocks("layers", modules, end, hooks)
    hook(blocks, LAYERS, worker.buffers.numbers)
    return Answers(worker.slots, worker.buffers, blocks)


def compute(worker, *requests, **asked):
    """Two requests side by side, of which one token is drawn."""
    import torch

    for request, steers in requests:
        worker.open(request, steers, prompt=PROMPT, **asked)
    names = [name for name, _ in requests]
    count = worker.fill(names, [0] * len(names), [PROMPT] * len(names))
    for site in range(len(LAYERS)):
        worker.pass_through(site, torch.randn(count, WIDTH, generator=torch.Generator().manual_seed(site)))


def test_each_request_has_its_own_numbers_in_the_order_of_its_steers(worker, answers):
    key = worker.put(VECTORS)
    asked = {
        "a": [Steer(LAYERS[2], key, 1.0), Steer(LAYERS[0], key, 2.0), Steer(LAYERS[2], key, 3.0, "add", "prompt")],
        "b": [Steer(LAYERS[1], key, -1.0)],
        "c": [],
    }
    compute(worker, *asked.items())
    found = answers.receipts(["c", "a", "b"])
    for name, steers in asked.items():
        raw = found[name]
        assert [own["site"] for own in raw["steers"]] == [LAYERS.index(steer.layer) for steer in steers]
        assert [own["vector"] for own in raw["steers"]] == [vector_hash(VECTORS[steer.layer]) for steer in steers]
        made = receipts(steers, [raw], **worker_tokens()).receipts
        for steer, receipt in zip(steers, made, strict=True):
            assert (receipt.block, receipt.receiver) == (f"layers.{steer.layer}", f"layers.{steer.layer + 1}")
            if sum(other.layer == steer.layer for other in steers) == 1:
                expected = steer.alpha * float(np.linalg.norm(VECTORS[steer.layer].astype(float)))
                assert receipt.shift_mean == pytest.approx(expected, rel=1e-5)


def worker_tokens():
    return {"prompt": list(range(PROMPT)), "drawn": [PROMPT]}


def test_an_answer_is_given_once(worker, answers):
    compute(worker, ("a", []), ("b", []))
    worker.slots.close("a")
    assert answers.receipts(["a"])["a"]["faults"] == []
    assert "asked for too late" in answers.receipts(["a"])["a"]["faults"][0]
    assert answers.receipts(["b"])["b"]["faults"] == []


def test_a_request_that_could_not_be_steered_says_why_and_has_no_readings(worker, answers):
    compute(worker, ("a", [Steer(LAYERS[0], "unknown", 1.0)]))
    (raw,) = answers.receipts(["a"]).values()
    assert "unknown is not held" in raw["faults"][0]
    assert raw["steers"] == []


def test_of_requests_that_ended_receipts_and_residuals_are_found_by_vllms_names(worker, answers):
    key = worker.put(VECTORS)
    compute(worker, ("a", [Steer(LAYERS[0], key, 1.0)]))
    compute(worker, ("b", []), capture=[[1, 3]])
    ended = answers.ended(["a", "b", "of someone else"])
    assert set(ended) == {"a", "b"}
    assert len(ended["a"]["steers"]) == 1
    assert ended["b"]["positions"] == [2] * len(LAYERS)


def test_a_vector_that_was_replaced_on_the_device_is_named_by_its_own_hash(worker, answers):
    import torch

    key = worker.put(VECTORS)
    compute(worker, ("a", [Steer(LAYERS[0], key, 1.0)]))
    row = worker.bank.borrow(key).row
    worker.buffers.bank[row] = torch.from_numpy(VECTORS[::-1].copy()[: len(LAYERS)])
    answers.forget(row)
    assert answers.receipts(["a"])["a"]["steers"][0]["vector"] != vector_hash(VECTORS[LAYERS[0]])
