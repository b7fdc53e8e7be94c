"""The ops steer and measure as the hooks of the transformers engine do, position by position."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import pytest
from support.worker import LAYERS, N_LAYERS, Worker

from capvec.steering import Steer

pytestmark = pytest.mark.unit

WIDTH, PROMPT, DRAWN = 48, 9, 4
ASSISTANT = [[2, 5]]


def directions(count, seed=0):
    return np.random.default_rng(seed).normal(size=(count, N_LAYERS, WIDTH)).astype("<f4")


def steerings(first, second):
    """What requests may ask of one layer and of several."""
    a = LAYERS[1]
    return {
        "nothing": [],
        "add": [Steer(a, first, 2.5)],
        "nothing is added": [Steer(a, first, 0.0)],
        "ablate": [Steer(a, first, 1.0, "ablate")],
        "set": [Steer(a, first, -1.5, "set", "generated")],
        "prompt": [Steer(a, first, 3.0, "add", "prompt")],
        "assistant": [Steer(a, first, 3.0, "add", "assistant")],
        "norm kept": [Steer(a, first, 3.0, "add", "all", True)],
        "two, one keeps the norm": [Steer(a, first, 2.0, "set", "assistant", True), Steer(a, second, 1.0)],
        "the same direction twice": [Steer(a, first, 2.0), Steer(a, first, 1.0, "add", "generated", True)],
        "several layers": [Steer(layer, second, 1.0 + layer, "add") for layer in LAYERS],
        "four at a layer": [Steer(a, one, 1.0, op) for one in (first, second) for op in ("ablate", "add")],
    }


def with_hooks(steers, vectors, states, dtype):
    """The receipts of the transformers engine, and what arrived, for block outputs `states` of each layer."""
    import torch
    from torch import nn

    from capvec.engines.transformers.hooks import ResidualPath, accumulators, steer

    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.out = None

        def forward(self, hidden):
            return hidden if self.out is None else self.out

    blocks = nn.ModuleList(Block() for _ in range(N_LAYERS + 1))
    path = ResidualPath(blocks, None, "layers", {block: f"layers.{i}" for i, block in enumerate(blocks)})
    row = accumulators(steers, [torch.from_numpy(vectors[one.direction][one.layer]) for one in steers])
    arrived: dict[int, list] = {layer: [] for layer in LAYERS}
    said = torch.zeros(1, PROMPT, dtype=torch.bool)
    for start, end in ASSISTANT:
        said[0, start:end] = True
    spans = [(0, PROMPT), *((at, at + 1) for at in range(PROMPT, PROMPT + DRAWN - 1))]
    for number, (start, end) in enumerate(spans):
        given = torch.ones(1, end - start, dtype=torch.bool)
        with steer(path, [row], given, generated=number > 0, assistant=None if number else said):
            hidden = torch.zeros(1, end - start, WIDTH, dtype=dtype)
            for layer, block in enumerate(blocks):
                block.out = states[layer][None, start:end] if layer in LAYERS else None
                if layer - 1 in LAYERS:
                    arrived[layer - 1].append(hidden[0])
                hidden = block(hidden)
    return row.receipts(DRAWN), row.isolation(DRAWN), {layer: torch.cat(all_) for layer, all_ in arrived.items()}


def states_of(request, dtype):
    import torch

    random = torch.Generator().manual_seed(hash(request) % 1000)
    shape = (PROMPT + DRAWN - 1, WIDTH)
    return {layer: (torch.randn(shape, generator=random) * 4).to(dtype) for layer in LAYERS}


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_mixed_batch_is_steered_and_measured_as_by_the_hooks_of_the_transformers_engine(dtype):
    import torch

    kind = getattr(torch, dtype)
    vectors = directions(2)
    worker = Worker(WIDTH, dtype=dtype)
    named = {worker.put(one): one for one in vectors}
    asked = steerings(*named)
    states = {request: states_of(number, kind) for number, request in enumerate(asked)}
    arrived = {request: {layer: [] for layer in LAYERS} for request in asked}
    for request, steers in asked.items():
        worker.open(request, steers, prompt=PROMPT, assistant=ASSISTANT)
    # The prompt in chunks of different lengths, then a token in each step.
    for start, end in [(0, 4), (4, 6), (6, PROMPT), *((at, at + 1) for at in range(PROMPT, PROMPT + DRAWN - 1))]:
        worker.fill(list(asked), [start] * len(asked), [end - start] * len(asked))
        for site, layer in enumerate(LAYERS):
            through = worker.pass_through(site, torch.cat([states[one][layer][start:end] for one in asked]))
            for request, part in zip(asked, through.split(end - start), strict=True):
                arrived[request][layer].append(part)
    for request, steers in asked.items():
        expected, isolation, left = with_hooks(steers, named, states[request], kind)
        measured = worker.measured(request, completion_tokens=DRAWN)
        for layer in {one.layer for one in steers}:
            eps = torch.finfo(kind).eps  # two orders of adding in float64 may round differently, once in a while
            torch.testing.assert_close(torch.cat(arrived[request][layer]), left[layer], rtol=eps, atol=0)
        for mine, theirs in zip(measured.receipts, expected, strict=True):
            for name in (field.name for field in fields(theirs) if field.name not in ("vector", "steer")):
                wanted = getattr(theirs, name)
                # A number that rounds differently shows in these two, which measure rounding itself.
                rough = {"error_max": theirs.rounding_max, "off_axis_max": 0.2}.get(name, 1e-9)
                close = pytest.approx(wanted, rel=1e-6, abs=rough) if isinstance(wanted, float) else wanted
                assert getattr(mine, name) == close, (request, name)
        assert measured.isolation.leak_max == isolation.leak_max == 0.0
        assert measured.isolation.steered == isolation.steered
        assert (measured.isolation.sites, measured.isolation.watched) == (len(LAYERS) * DRAWN,) * 2
        assert measured.apart.passes == 3 + DRAWN - 1


def steered_alone(break_it, *, alpha=4.0, requests=("mine", "other")):
    """Two requests of a prompt alone in one step, steered at the middle layer and not; `break_it` between the ops."""
    import torch

    vectors = directions(2, seed=3)
    worker = Worker(WIDTH)
    first, second = (worker.put(one) for one in vectors)
    worker.open(requests[0], [Steer(LAYERS[1], first, alpha)], prompt=PROMPT)
    worker.open(requests[1], [Steer(LAYERS[1], second, -2.0)], prompt=PROMPT)
    worker.open("bystander", [], prompt=PROMPT)
    everyone = [*requests, "bystander"]
    tokens = worker.fill(everyone, [0] * 3, [PROMPT] * 3)
    states = torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(5)) * 4
    for site in range(len(LAYERS)):
        break_it(worker, site, "before")
        pair = worker.steer(site, states)
        break_it(worker, site, pair)
        worker.ops.witness(worker.buffers, *pair, site)
    return worker, vectors[0][LAYERS[1]]


def test_a_strength_that_is_off_by_three_percent_shows_in_the_shift():
    def break_it(worker, site, _when):
        if site == 1 and _when == "before":
            worker.buffers.table[worker.slots.find("mine"), 1, 0, 2] *= 1.03

    worker, vector = steered_alone(break_it)
    receipt = worker.measured("mine", completion_tokens=1).receipts[0]
    assert receipt.shift_mean == pytest.approx(1.03 * 4 * np.linalg.norm(vector), rel=1e-5)


def test_a_steer_that_does_not_run_leaves_a_shift_of_nothing_or_a_leak():
    import torch

    def break_it(worker, site, pair):
        if site == 1 and pair != "before":
            pair[0].copy_(worker.buffers.stash[: len(pair[0])])
            pair[1].copy_(torch.zeros_like(pair[1]))

    worker, _ = steered_alone(break_it)
    receipt = worker.measured("mine", completion_tokens=1).receipts[0]
    assert receipt.shift_mean == pytest.approx(0.0, abs=1e-6)
    assert receipt.error_max > 1


def test_a_neighbours_steer_shows_off_the_axis():
    def break_it(worker, site, _when):  # before the steer, and back before the witness
        if site == 1:
            tokens = worker.buffers.tokens
            mine, others = tokens[:PROMPT].clone(), tokens[PROMPT : 2 * PROMPT].clone()
            tokens[:PROMPT], tokens[PROMPT : 2 * PROMPT] = others, mine

    worker, _ = steered_alone(break_it)
    assert worker.measured("mine", completion_tokens=1).receipts[0].off_axis_max > 1e4


def test_what_reaches_an_unsteered_row_or_a_site_without_a_steer_is_a_leak():
    def break_it(_worker, site, pair):
        if pair != "before" and site == 2:
            pair[1][2 * PROMPT + 3, 7] += 1e-3

    worker, _ = steered_alone(break_it)
    assert worker.measured("bystander", completion_tokens=1).isolation.leak_max == pytest.approx(1e-3, rel=1e-3)
    assert worker.measured("mine", completion_tokens=1).isolation.leak_max == 0.0


def test_a_site_that_does_not_run_is_not_watched():
    import torch

    worker = Worker(WIDTH)
    worker.open("mine", [], prompt=PROMPT)
    tokens = worker.fill(["mine"], [0], [PROMPT])
    for site in (0, 2):
        worker.pass_through(site, torch.ones(tokens, WIDTH))
    isolation = worker.measured("mine", completion_tokens=1).isolation
    assert (isolation.sites, isolation.watched) == (3, 1)


def test_a_residual_that_is_no_number_gives_receipts_that_are_not_finite():
    import torch

    worker = Worker(WIDTH)
    direction = worker.put(directions(1)[0])
    worker.open("mine", [Steer(LAYERS[0], direction, 1.0)], prompt=PROMPT)
    worker.open("bystander", [], prompt=PROMPT)
    tokens = worker.fill(["mine", "bystander"], [0, 0], [PROMPT, PROMPT])
    states = torch.ones(tokens, WIDTH)
    states[[3, PROMPT + 3]] = torch.nan
    worker.pass_through(0, states)
    assert not np.isfinite(worker.measured("mine", completion_tokens=1).receipts[0].shift_min)
    assert not np.isfinite(worker.measured("bystander", completion_tokens=1).isolation.leak_max)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_captured_residuals_are_averaged_over_the_chosen_positions_of_every_chunk_and_layer_before_any_steer(dtype):
    import torch

    from capvec.engines.vllm.measured import residuals

    worker = Worker(WIDTH, dtype=dtype)
    direction = worker.put(directions(1)[0])
    steers = [Steer(LAYERS[1], direction, 4.0)]
    worker.open("mine", steers, prompt=PROMPT, capture=[[1, 3], [6, 9]])
    worker.open("other", [], prompt=PROMPT, capture=[[8, 9]])
    states = {request: states_of(number, getattr(torch, dtype)) for number, request in enumerate(("mine", "other"))}
    for start, end in [(0, 2), (2, 7), (7, PROMPT), (PROMPT, PROMPT + 1)]:
        worker.fill(["mine", "other"], [start] * 2, [end - start] * 2)
        for site, layer in enumerate(LAYERS):
            worker.pass_through(site, torch.cat([states[request][layer][start:end] for request in states]))
    for request, chosen in (("mine", [1, 2, 6, 7, 8]), ("other", [8])):
        found = residuals([worker.captured(request)] * 2, len(chosen), len(LAYERS), WIDTH)
        expected = torch.stack([states[request][layer][chosen].double().mean(0) for layer in LAYERS]).float().numpy()
        assert found == pytest.approx(expected, rel=1e-6, abs=1e-7)


def test_more_captures_at_once_than_there_is_room_for_are_refused_and_an_ended_one_makes_room():
    worker = Worker(WIDTH)
    for request in "abc":
        worker.open(request, [], prompt=PROMPT, capture=[[0, 1]])
    assert worker.slots.of("b").faults == []
    assert "more captures at once" in worker.slots.of("c").faults[0]
    worker.slots.taken("a")
    worker.slots.close("a")
    worker.open("d", [], prompt=PROMPT, capture=[[0, 1]])
    assert worker.slots.of("d").faults == []
