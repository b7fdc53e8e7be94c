"""Steering that is broken on purpose inside vLLM is caught by the receipts."""

from __future__ import annotations

import pytest
from support.vllm_models import Asked, engine, prompt, save_tiny, vectors

from capvec.engines.vllm.plugin.blocks import SteerHook, WitnessHook
from capvec.errors import SteeringFault
from capvec.steering import Steer

pytestmark = pytest.mark.vllm


@pytest.fixture(scope="module")
def steered(tmp_path_factory):
    with engine(save_tiny(tmp_path_factory.mktemp("qwen3"), "qwen3")) as running:
        yield running


@pytest.fixture
def direction(steered):
    return steered.put(vectors(0))


@pytest.fixture
def steering(steered):
    """Capvec's part of the worker, in this process."""
    return steered.llm.collective_rpc(lambda worker: worker.capvec_steering)[0]


def serve(steered, direction, *, salt="", seed=0):
    """Two requests side by side; the second has a steer of its own."""
    other = steered.put(vectors(9))
    mine = Asked(prompt(seed, 30), (Steer(1, direction, 4.0),), salt or None)
    return steered.run([mine, Asked(prompt(1, 30), (Steer(1, other, -2.0),))], new=3)[0]


def test_unbroken_it_passes(steered, direction):
    steered.check(serve(steered, direction))


def test_a_steer_at_another_layer_is_caught_by_the_blocks_name(steered, direction, steering):
    blocks = steering.blocks.modules
    (found,) = [one for one in blocks[1]._forward_hooks.items() if isinstance(one[1], SteerHook)]
    moved = blocks[2].register_forward_hook(blocks[1]._forward_hooks.pop(found[0]))
    blocks[2].register_buffer(found[1].number, steering.buffers.numbers[1], persistent=False)
    try:
        with pytest.raises(SteeringFault, match=r"the hook ran on model\.layers\.2"):
            steered.check(serve(steered, direction))
    finally:
        moved.remove()
        delattr(blocks[2], found[1].number)
        blocks[1]._forward_hooks[found[0]] = found[1]


def test_a_swapped_vector_is_caught_by_its_hash(steered, direction, steering):
    import torch

    steered.check(serve(steered, direction))
    row = steering.slots.bank.borrow(direction).row
    steering.slots.bank.give_back(direction)
    held = steering.buffers.bank[row].clone()
    try:
        steering.buffers.bank[row] = torch.from_numpy(vectors(7))
        with pytest.raises(SteeringFault, match="the vector that was multiplied has the hash"):
            steered.check(serve(steered, direction))
    finally:
        steering.buffers.bank[row] = held


def test_three_percent_more_strength_is_caught_by_the_shift(steered, direction, steering, monkeypatch):
    update = steering.update

    def stronger(step):
        update(step)
        if step.scheduled_new_reqs:
            steering.buffers.table[..., 2] *= 1.03

    monkeypatch.setattr(steering, "update", stronger)
    with pytest.raises(SteeringFault, match="measured a mean shift"):
        steered.check(serve(steered, direction))


def test_a_neighbours_steer_is_caught(steered, direction, steering, monkeypatch):
    def swapped(requests, computed, scheduled, pack=steering.slots.pack):
        return pack(list(requests)[::-1], computed, scheduled)

    monkeypatch.setattr(steering.slots, "pack", swapped)
    answer = serve(steered, direction)
    with pytest.raises(SteeringFault, match="they belong to another request"):
        steered.check(answer)


def test_a_prefix_that_was_computed_under_another_steer_is_caught(steered, direction):
    one = Asked(prompt(40, 150), (Steer(1, direction, 4.0),), salt="the same")
    other = Asked(one.tokens, (Steer(1, direction, 3.0),), salt="the same")
    steered.check(steered.run([one])[0])
    answer = steered.run([other])[0]
    assert answer.cached >= 128
    with pytest.raises(SteeringFault, match="not computed under its steers"):
        steered.check(answer)


@pytest.mark.parametrize("kind", [SteerHook, WitnessHook])
def test_a_hook_that_does_not_run_is_caught(steered, direction, steering, kind):
    hooks = [
        (of, number, one)
        for _, of in steering.blocks.hooks
        for number, one in of.items()
        if isinstance(one, kind) and one.site == 1
    ]
    ((of, number, one),) = hooks
    del of[number]
    try:
        with pytest.raises(SteeringFault):
            steered.check(serve(steered, direction, seed=3))
    finally:
        of[number] = one


def test_a_residual_that_someone_else_moves_is_caught_in_unsteered_replies(steered, steering):
    def meddle(_module, _args, output):
        output[1][0, 5] += 1e-3

    hook = steering.blocks.modules[2].register_forward_hook(meddle)
    try:
        with pytest.raises(SteeringFault, match="a position without a steer was moved"):
            steered.check(steered.run([Asked(prompt(2, 20))])[0])
    finally:
        hook.remove()


def test_a_request_that_names_an_unknown_direction_is_answered_with_a_fault_and_no_receipt(steered):
    answer = steered.run([Asked(prompt(2, 20), (Steer(1, "unknown", 1.0),))])[0]
    with pytest.raises(SteeringFault, match="unknown is not held"):
        _ = answer.measured
