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


@pytest.fixture(scope="module")
def attention(torch):
    """The layers of an attention, queries with twice as many outputs, and one of its own."""

    class Attention(torch.nn.Module):
        def __init__(self, biased):
            super().__init__()
            for name, out in (("q_proj", 8), ("k_proj", 4), ("v_proj", 4), ("o_proj", 6)):
                setattr(self, name, torch.nn.Linear(6, out, bias=biased))

    def made(biased=False):
        model = Attention(biased).requires_grad_(False)
        for parameter in model.parameters():
            parameter.copy_(parameter.bfloat16().float())
        return model

    return made


SIBLINGS = ("q_proj", "k_proj", "v_proj")


@given(st.lists(st.tuples(st.sampled_from(SIBLINGS), st.integers(0, 2)), max_size=12), st.booleans())
def test_siblings_give_what_each_gives_in_any_order_and_for_any_inputs(torch, packed, attention, calls, biased):
    model = attention(biased)
    inputs = [torch.randn(2, 3, 6) for _ in range(3)]
    expected = [getattr(model, name)(inputs[index]) for name, index in calls]
    packed.pack(model)
    for (name, index), one in zip(calls, expected, strict=True):
        torch.testing.assert_close(getattr(model, name)(inputs[index]), one)


def test_siblings_are_computed_once_and_keep_nothing(torch, packed, attention):
    model = attention()
    weights = {name: getattr(model, name).weight.clone() for name in SIBLINGS}
    packed.pack(model)
    product, states, computed = model.q_proj.product, torch.randn(1, 6), []
    product.linear.register_forward_hook(lambda *_: computed.append(1))
    for name in SIBLINGS:
        layer = getattr(model, name)
        assert torch.equal(layer.weight, weights[name])
        assert layer(states).shape == (1, layer.out_features)
    assert len(computed) == 1
    assert product._kept is None
    assert type(model.o_proj) is packed.PackedLinear


def test_siblings_that_float16_cannot_hold_together_are_packed_alone(packed, attention):
    model = attention()
    model.k_proj.weight.mul_(2.0**-40)
    packed.pack(model)
    assert {type(getattr(model, name)) for name in SIBLINGS} == {packed.PackedLinear}


def test_siblings_of_unlike_widths_or_biases_are_packed_alone(torch, packed, attention):
    for other in (torch.nn.Linear(6, 4, bias=True), torch.nn.Linear(5, 4, bias=False)):
        model = attention()
        model.v_proj = other.requires_grad_(False)
        model.v_proj.weight.copy_(model.v_proj.weight.bfloat16().float())
        packed.pack(model)
        assert {type(getattr(model, name)) for name in SIBLINGS} == {packed.PackedLinear}
