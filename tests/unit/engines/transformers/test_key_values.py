"""Keys and values with room hold what transformers' own growing layer holds, and share it with nobody who appends."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.unit

STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("append"), st.sampled_from([1, 1, 2, 70])),
        st.tuples(st.just("cut"), st.integers(1, 5)),
        st.tuples(st.just("rows"), st.permutations([0, 1, 2])),
    ),
    max_size=12,
)


@pytest.fixture(scope="module")
def layers():
    from transformers.cache_utils import DynamicLayer

    from capvec.engines.transformers.key_values import KeyValues

    return KeyValues, DynamicLayer


def states(torch, count, seed):
    return torch.randn(2, 3, 2, count, 4, generator=torch.Generator().manual_seed(seed))


@given(STEPS)
def test_it_holds_what_the_growing_layer_of_transformers_holds(torch, layers, steps):
    ours, theirs = (kind() for kind in layers)
    for seed, (what, how) in enumerate([("append", 3), *steps]):
        if what == "append":
            found, expected = (layer.update(*states(torch, how, seed)) for layer in (ours, theirs))
            assert all(map(torch.equal, found, expected))
        elif what == "cut":
            kept = max(1, theirs.keys.shape[-2] - how)
            ours = ours.part(slice(kept))
            theirs.keys, theirs.values = theirs.keys[:, :, :kept], theirs.values[:, :, :kept]
        else:
            for layer in (ours, theirs):
                layer.reorder_cache(torch.tensor(how))
        assert ours.get_seq_length() == theirs.get_seq_length()
        assert torch.equal(ours.keys, theirs.keys)
        assert torch.equal(ours.values, theirs.values)


def test_a_part_and_its_whole_may_both_be_appended_to(torch, layers):
    whole = layers[0]()
    whole.update(*states(torch, 3, 0))
    whole.update(*states(torch, 1, 1))  # from here on it has room
    part = whole.part(slice(3))
    kept = part.keys.clone()
    whole.update(*states(torch, 1, 2))
    longer = whole.keys.clone()
    part.update(*states(torch, 1, 3))
    assert torch.equal(part.keys[:, :, :3], kept)
    assert torch.equal(part.keys[:, :, 3:], states(torch, 1, 3)[0])
    assert torch.equal(whole.keys, longer)


def test_a_step_copies_nothing_while_there_is_room(torch, layers):
    from capvec.engines.transformers.key_values import ROOM

    layer, places = layers[0](), set()
    layer.update(*states(torch, 3, 0))
    for step in range(ROOM + 1):
        layer.update(*states(torch, 1, step))
        places.add(layer.keys.data_ptr())
    assert len(places) == 1
    layer.update(*states(torch, 1, 0))
    assert layer.keys.data_ptr() not in places
