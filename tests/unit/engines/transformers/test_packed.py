"""Packed linear layers have the same weights, and results that differ by the order of a sum alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def packed(torch):
    from capvec.engines.transformers import packed

    if "fbgemm" not in torch.backends.quantized.supported_engines:
        pytest.skip("this build of torch has no FBGEMM")
    return packed


def layer(torch, weight, bias=None):
    linear = torch.nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None)
    linear.weight.data = weight
    if bias is not None:
        linear.bias.data = bias
    return linear.requires_grad_(False)


def weights(torch, out, width, *, seed, exponent, dtype):
    """Random weights as a checkpoint of this dtype holds them, in float32, of the size 2^exponent."""
    draw = torch.randn(out, width, generator=torch.Generator().manual_seed(seed))
    return (draw * 2.0**exponent).to(dtype).float()


@given(
    st.integers(1, 40), st.integers(1, 70), st.integers(1, 40), st.integers(0, 2**31), st.integers(-20, 12),
    st.booleans(), st.sampled_from(["bfloat16", "float16"]),
)  # fmt: skip
def test_weights_are_the_same_and_results_differ_by_the_order_of_a_sum(
    torch, packed, out, width, rows, seed, exponent, biased, dtype
):
    weight = weights(torch, out, width, seed=seed, exponent=exponent, dtype=getattr(torch, dtype))
    states = torch.randn(rows, width, generator=torch.Generator().manual_seed(seed + 1))
    bias = torch.randn(out) if biased else None
    found = packed.packed_linear(layer(torch, weight, bias))
    assert found is not None
    assert torch.equal(found.weight, weight)
    exact = states.double() @ weight.double().T
    terms = states.double().abs() @ weight.double().abs().T  # n roundings of a sum are at most n·ε of its terms
    allowed = (width + 2) * torch.finfo(torch.float32).eps * (terms + (bias.abs() if biased else 0.0))
    result = found(states[None])[0].double() - (bias.double() if biased else 0.0)
    assert bool(((result - exact).abs() <= allowed).all())


def test_a_layer_that_float16_cannot_hold_stays_as_it_is(torch, packed):
    third = torch.full((4, 4), 1 / 3)
    wide = torch.tensor([[1.0, 2.0**-60]])
    for weight in (third, wide, torch.tensor([[float("inf")]]), torch.tensor([[float("nan")]])):
        assert packed.packed_linear(layer(torch, weight)) is None


def test_small_and_zero_weights_are_held(torch, packed):
    for weight in (torch.zeros(3, 2), torch.full((3, 2), 2.0**-30), torch.tensor([[2.0**10, 2.0**-20]])):
        assert torch.equal(packed.packed_linear(layer(torch, weight)).weight, weight)


def test_other_dtypes_and_subclasses_are_left_alone(torch, packed):
    class Own(torch.nn.Linear):
        pass

    model = torch.nn.Sequential(torch.nn.Linear(2, 2).bfloat16(), Own(2, 2))
    for one in model:
        one.weight.data.fill_(0.5)
    packed.pack(model)
    assert [type(one) for one in model] == [torch.nn.Linear, Own]


def test_a_model_is_packed_where_it_can_be_and_gives_what_it_gave(torch, packed):
    model = torch.nn.Sequential(torch.nn.Linear(6, 5), torch.nn.ReLU(), torch.nn.Sequential(torch.nn.Linear(5, 3)))
    model.requires_grad_(False)
    for parameter in model.parameters():
        parameter.copy_(parameter.bfloat16().float())
    states = torch.randn(4, 6)
    before = model(states)
    packed.pack(model)
    assert type(model[0]) is type(model[2][0]) is packed.PackedLinear
    torch.testing.assert_close(model(states), before)
