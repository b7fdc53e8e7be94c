"""A block of the cache is taken over only under the steers that it was computed under, at the same positions."""

from __future__ import annotations

import numpy as np
import pytest

from capvec.engines.vllm.plugin.prefixes import Prefixes
from capvec.steering import Steer

pytestmark = pytest.mark.unit

SIZE = 4
ADD = Steer(1, "v", 2.0)


def first_request(steers, *, prompt=10, assistant=None):
    """Its prompt fills blocks 1 to 3, and what it generates goes on in block 4."""
    prefixes = Prefixes([SIZE])
    prefixes.open("a", steers, prompt=prompt, assistant=assistant)
    assert prefixes.assign("a", [[1, 2, 3]], cached=0, anew=True)
    assert prefixes.assign("a", [[4]], cached=0, anew=False)
    prefixes.close("a")
    return prefixes


def takes_over(prefixes, steers, blocks, *, prompt=20, assistant=None):
    prefixes.open("b", steers, prompt=prompt, assistant=assistant)
    return prefixes.assign("b", [[*blocks, 9]], cached=SIZE * len(blocks), anew=True)


@pytest.mark.parametrize("steers", [[], [ADD], [ADD, Steer(2, "w", 1.0, "ablate")]])
def test_what_was_computed_under_the_same_steers_of_all_positions_is_taken_over(steers):
    assert takes_over(first_request(steers), steers, [1, 2, 3, 4])


@pytest.mark.parametrize("others", [[], [Steer(1, "v", 2.1)], [Steer(2, "v", 2.0)], [Steer(1, "w", 2.0)], [ADD, ADD]])
def test_what_was_computed_under_others_is_not(others):
    assert not takes_over(first_request([ADD]), others, [1])
    assert not takes_over(first_request(others), [ADD], [1])


def test_what_was_generated_under_a_steer_of_generated_tokens_is_no_prompt_under_it():
    steers = [Steer(1, "v", 2.0, "add", "generated")]
    assert takes_over(first_request(steers), steers, [1, 2])
    assert not takes_over(first_request(steers), steers, [1, 2, 3])


def test_what_the_assistant_said_must_be_the_assistants_again():
    steers, said = [Steer(1, "v", 2.0, "add", "assistant")], np.zeros(20, dtype=bool)
    said[10:16] = True
    assert takes_over(first_request(steers), steers, [1, 2, 3, 4], assistant=said)
    assert not takes_over(first_request(steers), steers, [1, 2, 3, 4])
    said[1] = True
    assert not takes_over(first_request(steers), steers, [1], assistant=said)


def test_a_block_that_is_written_anew_holds_what_was_written_last():
    prefixes = first_request([ADD])
    prefixes.open("c", [], prompt=10)
    prefixes.assign("c", [[1]], cached=0, anew=True)
    assert not takes_over(prefixes, [ADD], [1])
    assert takes_over(prefixes, [], [1])


def test_a_block_that_nobody_was_seen_to_write_is_not_taken_over():
    assert not takes_over(Prefixes([SIZE]), [], [7])


def test_the_place_of_a_block_behind_a_sliding_window_is_kept_free():
    prefixes = first_request([])
    assert takes_over(prefixes, [], [0, 0, 3])
