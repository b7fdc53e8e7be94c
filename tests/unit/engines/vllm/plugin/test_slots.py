"""Requests' slots: who has one, what is counted of each, and what each token of a step is."""

from __future__ import annotations

import numpy as np
import pytest

from capvec.engines.vllm.layout import ASSISTANT, GENERATED, PROMPT
from capvec.engines.vllm.plugin.bank import Bank
from capvec.engines.vllm.plugin.slots import AGAIN, COEFFICIENT, DREW, INVERSE, KIND, SLOT_MASK, VECTOR, Slots
from capvec.steering import Steer

pytestmark = pytest.mark.unit

LAYERS = (0, 2)


def with_direction(capacity=5, steers=2):
    bank = Bank(2, LAYERS)
    direction, _ = bank.put(np.arange(12, dtype="<f4").reshape(3, 4))
    return Slots(capacity, LAYERS, steers, bank), direction


def open_one(slots, request="a", steers=(), *, prompt=6, cached=0, **asked):
    given = {"key": f"key of {request}", "steers": [one.to_json() for one in steers], **asked}
    slots.open(request, given, prompt=prompt, cached=cached)
    return slots.of(request)


def step(slots, *spans):
    """Tokens of a step, from (request, computed, scheduled), as tuples of slot, kind, drew, again."""
    requests, computed, scheduled = zip(*spans, strict=True)
    packed = slots.pack(requests, np.array(computed), np.array(scheduled))
    return [(one & SLOT_MASK, one >> KIND & 3, one >> DREW & 1, one >> AGAIN & 1) for one in packed.tolist()]


def test_a_token_is_drawn_from_the_prompts_last_position_and_from_every_one_behind_it():
    slots, _ = with_direction()
    open_one(slots)
    slot = slots.find("key of a")
    assert step(slots, ("a", 0, 4)) == [(slot, PROMPT, 0, 0)] * 4
    assert step(slots, ("a", 4, 2)) == [(slot, PROMPT, 0, 0), (slot, PROMPT, 1, 0)]
    assert step(slots, ("a", 6, 1)) == [(slot, GENERATED, 1, 0)]
    assert (slots.passes[slot], slots.reached[slot], slots.again[slot]) == (3, 7, 0)


def test_positions_that_a_preempted_request_computes_again_are_counted_apart():
    slots, _ = with_direction()
    open_one(slots, cached=2)
    slot = slots.find("key of a")
    step(slots, ("a", 2, 4))
    step(slots, ("a", 6, 1))
    assert step(slots, ("a", 4, 4)) == [
        (slot, PROMPT, 0, 1), (slot, PROMPT, 0, 1), (slot, GENERATED, 0, 1), (slot, GENERATED, 1, 0)
    ]  # fmt: skip
    assert (slots.reached[slot], slots.again[slot]) == (8, 3)


def test_the_assistants_tokens_of_a_chunk_are_marked_in_the_requests_that_ask():
    slots, direction = with_direction()
    open_one(slots, "a", [Steer(0, direction, 1.0, "add", "assistant")], assistant=[[1, 3], [5, 6]])
    open_one(slots, "b")
    kinds = [kind for _, kind, _, _ in step(slots, ("b", 0, 2), ("a", 2, 4))]
    assert kinds == [PROMPT, PROMPT, ASSISTANT, PROMPT, PROMPT, ASSISTANT]


@pytest.mark.parametrize(
    ("steer", "said"),
    [
        ({"direction": "unknown"}, "unknown is not held"),
        ({"layer": 1}, "layer 1 has no hook; expected one of 0, 2"),
        ({"positions": "assistant"}, "without their places"),
    ],
)
def test_a_request_that_cannot_be_steered_as_asked_is_not_steered_at_all_and_says_why(steer, said):
    slots, direction = with_direction()
    given = {"layer": 0, "direction": direction, "alpha": 1.0} | steer
    one = open_one(slots, steers=[Steer(2, direction, 1.0), Steer(**given)])
    assert said in one.faults[0]
    assert (slots.table[slots.find("key of a"), ..., VECTOR] == -1).all()


@pytest.mark.parametrize("steers", [[{"layer": "a"}], ["text"], [{"layer": 0, "direction": "d", "alpha": None}], 7])
def test_what_is_no_steer_is_a_fault_of_its_request_and_the_engine_goes_on(steers):
    slots, _ = with_direction()
    slots.open("a", {"key": "k", "steers": steers}, prompt=6, cached=0)
    assert "not understood" in slots.of("a").faults[0]


def test_parallel_directions_of_a_site_count_as_one():
    vectors = np.random.default_rng(0).normal(size=(3, 160)).astype("<f4")
    bank = Bank(2, LAYERS)
    first, second = (bank.put((factor * vectors).astype("<f4"))[0] for factor in (1.0, 0.37))
    slots = Slots(5, LAYERS, 2, bank)
    open_one(slots, steers=[Steer(2, first, 1.0), Steer(2, second, 1.0)])
    assert slots.table[slots.find("key of a"), 1, :, INVERSE:] == pytest.approx(np.full((2, 2), 0.25))


def test_more_steers_at_a_layer_than_there_is_room_for_are_refused():
    slots, direction = with_direction(steers=2)
    one = open_one(slots, steers=[Steer(0, direction, alpha) for alpha in (1.0, 2.0, 3.0)])
    assert "more than 2 steers" in one.faults[0]


def test_the_table_has_each_steers_move_and_the_projection_onto_all_directions_of_a_site():
    slots, direction = with_direction()
    open_one(slots, steers=[Steer(2, direction, -0.5), Steer(2, direction, 2.0, "set")])
    rows = slots.table[slots.find("key of a"), 1]
    length = np.linalg.norm([8.0, 9.0, 10.0, 11.0])
    assert rows[:, COEFFICIENT] == pytest.approx([-0.5 * length, 2.0 * length])
    # Twice the same direction: each takes half of the projection.
    assert rows[:, INVERSE:] == pytest.approx(np.full((2, 2), 0.25))


def test_what_was_measured_waits_until_it_is_taken_or_its_slot_is_needed():
    slots, direction = with_direction(capacity=3)
    open_one(slots, "a", [Steer(0, direction, 1.0)])
    slots.close("a")
    open_one(slots, "b")
    assert slots.find("key of a")
    slots.taken("key of a")
    assert not slots.find("key of a")
    slots.close("b")
    for request in "cd":
        open_one(slots, request)
    assert not slots.find("key of b")
    open_one(slots, "e")
    assert slots.of("e") is None
    assert step(slots, ("e", 0, 2), ("c", 0, 1))[:2] == [(0, 0, 0, 0)] * 2


def test_a_request_that_was_taken_while_it_ran_gives_its_slot_back_when_it_ends():
    slots, direction = with_direction(capacity=2)
    open_one(slots, "a", [Steer(0, direction, 1.0)])
    slots.taken("key of a")
    slots.close("a")
    assert open_one(slots, "b") is not None
    slots.bank.drop(direction)
    assert direction not in slots.bank.directions


def test_a_step_that_goes_on_is_counted_as_any_other():
    """Its numbers are the very same array, which need not be copied to the device again."""
    (slots, direction), (others, _) = with_direction(), with_direction()
    for one in (slots, others):
        for request, prompt in (("a", 6), ("b", 3)):
            open_one(one, request, [Steer(2, direction, 1.0)], prompt=prompt)
        step(one, ("a", 0, 6), ("b", 0, 3))
    requests, computed, scheduled = ["a", "b"], np.array([6, 3]), np.array([1, 1])
    first = slots.pack(requests, computed, scheduled)
    assert slots.pack(requests, computed + 1, scheduled) is first
    for at in range(2):
        open_one(others, f"other {at}")  # which has the next step looked at anew
        again = others.pack(requests, computed + at, scheduled)
        others.close(f"other {at}")
    assert (again == first).all()
    for counts in ("passes", "again", "reached"):
        assert (getattr(slots, counts)[:3] == getattr(others, counts)[:3]).all()
    assert (slots.pack(requests, computed, scheduled) >> AGAIN & 1).all()
    assert slots.again[[slots.find("key of a"), slots.find("key of b")]].tolist() == [1, 1]


def test_the_sites_of_a_step_are_those_of_its_requests_steers():
    slots, direction = with_direction()
    open_one(slots, "a", [Steer(2, direction, 1.0)])
    open_one(slots, "b")
    assert slots.steered_sites(["a", "b"]).tolist() == [False, True]
    assert slots.steered_sites(["b"]).tolist() == [False, False]
    slots.close("a")
    slots.taken("key of a")
    open_one(slots, "c")
    assert slots.steered_sites(["b", "c"]).tolist() == [False, False]
