"""Attention of one new token."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.unit

SIZES = {
    "rows": st.integers(1, 5),
    "groups": st.integers(1, 3),
    "shared": st.integers(1, 4),
    "positions": st.integers(1, 70),
}


def drawn(rows, groups, shared, positions, seed, mask):
    """The arguments of an attention function, in float64."""
    import torch

    made = torch.Generator().manual_seed(seed)

    def normal(*size):
        return torch.randn(*size, generator=made, dtype=torch.float64)

    masks = {"none": None, "added": normal(rows, 1, 1, positions)}
    masks["bool"] = torch.rand(rows, 1, 1, positions, generator=made) < 0.7
    masks["bool"][..., -1] = True  # a position sees itself
    tensors = (
        normal(rows, groups * shared, 1, 8),
        normal(rows, groups, positions, 8),
        normal(rows, groups, positions, 6),
    )
    return *tensors, masks[mask]


@given(
    **SIZES,
    seed=st.integers(0, 9),
    mask=st.sampled_from(["none", "added", "bool"]),
    scaling=st.sampled_from([None, 0.3]),
)
def test_it_is_that_of_transformers_up_to_rounding(rows, groups, shared, positions, seed, mask, scaling):
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from capvec.engines.transformers.attention import attend

    module = SimpleNamespace(num_key_value_groups=shared, is_causal=True)
    arguments = drawn(rows, groups, shared, positions, seed, mask)
    ours, theirs = (function(module, *arguments, scaling=scaling)[0] for function in (attend, sdpa_attention_forward))
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("positions", [64, 300, 1200])
def test_it_is_the_same_to_the_bit_in_any_number_of_threads(positions):
    import torch

    from capvec.engines.transformers.attention import attend
    from capvec.engines.transformers.threads import computing_in

    query, key, value, mask = (
        one.float() if one.is_floating_point() else one for one in drawn(4, 3, 3, positions, 0, "bool")
    )
    found = []
    for threads in (1, 2, 3):
        with computing_in(threads):
            found.append(attend(SimpleNamespace(num_key_value_groups=3), query, key, value, mask)[0])
    assert torch.equal(found[0], found[1])
    assert torch.equal(found[0], found[2])


def test_what_it_does_not_know_is_left_to_transformers():
    from capvec.engines.transformers.attention import attend

    module = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    with pytest.raises(ValueError, match="softcap"):
        attend(module, *drawn(1, 1, 2, 5, 0, "none"), softcap=30.0)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_scores_of_numbers_of_16_bits_stay_in_float32(dtype):
    import torch
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    from capvec.engines.transformers.attention import attend

    module = SimpleNamespace(num_key_value_groups=2, is_causal=True)
    tensors = [one.to(getattr(torch, dtype)) for one in drawn(2, 1, 2, 40, 0, "none")[:3]]
    ours, theirs = (function(module, *tensors, None)[0] for function in (attend, sdpa_attention_forward))
    assert torch.equal(ours, theirs)
