"""The bank of directions never writes over one that a request reads."""

from __future__ import annotations

import numpy as np
import pytest

from capvec.engines.vllm.plugin.bank import Bank
from capvec.steering import direction_hash

pytestmark = pytest.mark.unit


def vectors(seed):
    return np.random.default_rng(seed).normal(size=(3, 4)).astype("<f4")


def test_a_direction_is_known_by_the_hash_of_all_its_layers_and_held_for_some():
    bank = Bank(2, [0, 2])
    direction, held = bank.put(vectors(0))
    assert direction == direction_hash(vectors(0))
    assert held is not None
    assert (held.vectors == vectors(0)[[0, 2]]).all()
    assert held.lengths == pytest.approx(np.linalg.norm(vectors(0)[[0, 2]], axis=1))
    assert bank.put(vectors(0)) == (direction, None)


def test_a_full_bank_gives_up_what_was_not_used_for_longest():
    bank = Bank(2, [0])
    first, second = (bank.put(vectors(seed))[0] for seed in (0, 1))
    assert bank.borrow(first) is not None
    bank.give_back(first)
    third, _ = bank.put(vectors(2))
    assert bank.directions == [first, third]
    assert bank.borrow(second) is None


def test_a_bank_whose_directions_are_all_in_use_takes_no_other():
    bank = Bank(1, [0])
    first, _ = bank.put(vectors(0))
    bank.borrow(first)
    with pytest.raises(MemoryError, match="all 1 directions"):
        bank.put(vectors(1))


def test_a_dropped_direction_stays_until_the_last_request_that_uses_it_has_ended():
    bank = Bank(1, [0])
    first, held = bank.put(vectors(0))
    bank.borrow(first)
    bank.drop(first)
    assert bank.directions == []
    assert bank.borrow(first) is None
    with pytest.raises(MemoryError):
        bank.put(vectors(1))
    bank.give_back(first)
    _, other = bank.put(vectors(1))
    assert (other.row, held.row) == (0, 0)


def test_a_dropped_direction_that_is_put_again_is_held():
    bank = Bank(1, [0])
    first, _ = bank.put(vectors(0))
    bank.borrow(first)
    bank.drop(first)
    assert bank.put(vectors(0)) == (first, None)
    bank.give_back(first)
    assert bank.directions == [first]
