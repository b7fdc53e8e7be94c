"""The edits of weights against the arithmetic and the hooks that they replace."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

pytestmark = pytest.mark.unit

quick = settings(max_examples=25, deadline=None)
seeds = st.integers(0, 2**31)
alphas = st.floats(-4, 4).filter(lambda alpha: abs(alpha) > 1e-3)
D, INNER, TOKENS = 6, 10, 5


@pytest.fixture(scope="module")
def writer(torch):
    """A random writer of each kind, with an input for it: `[batch, positions, …]`."""
    from transformers.pytorch_utils import Conv1D

    from capvec.publish.bake.writers import Writer

    def build(kind, seed):
        torch.manual_seed(seed)
        module = {
            "linear": lambda: torch.nn.Linear(INNER, D, bias=False),
            "linear with a bias": lambda: torch.nn.Linear(INNER, D),
            "GPT-2's map": lambda: Conv1D(D, INNER),
            "embedding": lambda: torch.nn.Embedding(INNER, D),
        }[kind]()
        if getattr(module, "bias", None) is not None:
            torch.nn.init.normal_(module.bias)
        given = torch.randint(0, INNER, (2, TOKENS)) if kind == "embedding" else torch.randn(2, TOKENS, INNER)
        return Writer("writer", module.requires_grad_(False)), given

    return build


def unit_vector(torch, seed):
    v = np.random.default_rng(seed).standard_normal(D)
    return torch.tensor(v / np.linalg.norm(v), dtype=torch.float32)


@pytest.fixture(scope="module")
def edited(torch):
    """What a writer gives after an edit."""
    from capvec.publish.bake.edit import put

    def run(writer, edit, given):
        holder = torch.nn.Module()
        holder.writer = writer.module
        put(holder, edit)
        return holder.writer(given)

    return run


maps = st.sampled_from(["linear", "linear with a bias", "GPT-2's map"])
kinds = st.sampled_from(["linear", "linear with a bias", "GPT-2's map", "embedding"])


@quick
@given(maps, seeds, alphas)
def test_the_bias_adds_alpha_times_the_vector_at_every_position(torch, writer, edited, kind, seed, alpha):
    from capvec.publish.bake.edit import add_bias

    made, given_ = writer(kind, seed)
    shift = alpha * unit_vector(torch, seed)
    expected = made.module(given_) + shift
    edit = add_bias([(made, shift)])
    assert edit.new_biases == (("writer",) if kind == "linear" else ())
    torch.testing.assert_close(edited(made, edit, given_), expected, atol=1e-5, rtol=0)


@quick
@given(kinds, seeds)
def test_an_orthogonalised_writer_writes_what_the_hook_leaves(torch, writer, edited, kind, seed):
    from capvec.engines.transformers.hooks import ablate_writes
    from capvec.publish.bake.edit import orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    plain = made.module(given_).double()
    expected = plain - (plain @ unit.double())[..., None] * unit.double()
    with ablate_writes([made.module], unit):
        hooked = made.module(given_)
    after = edited(made, orthogonalise([made], unit), given_)
    # float32 sums of ten terms below 10: a few roundings of 10 · 2⁻²⁴ ≈ 6e-7 each.
    torch.testing.assert_close(hooked.double(), expected, atol=5e-6, rtol=0)
    torch.testing.assert_close(after.double(), expected, atol=5e-6, rtol=0)
    assert float((after @ unit).abs().max()) < 1e-5


@quick
@given(kinds, seeds)
def test_orthogonalising_twice_is_orthogonalising_once(torch, writer, edited, kind, seed):
    from capvec.publish.bake.edit import orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    once = edited(made, orthogonalise([made], unit), given_)
    again = replace(made, module=made.module)
    torch.testing.assert_close(edited(again, orthogonalise([again], unit), given_), once, atol=5e-6, rtol=0)


@quick
@given(maps, seeds, alphas)
def test_a_writer_that_is_ablated_and_then_added_to_writes_the_same_component_for_every_input(
    torch, writer, edited, kind, seed, alpha
):
    """The nearest to `set`, which cannot be baked."""
    from capvec.publish.bake.edit import add_bias, orthogonalise

    made, given_ = writer(kind, seed)
    unit = unit_vector(torch, seed)
    edited(made, orthogonalise([made], unit), given_)
    written = edited(made, add_bias([(made, alpha * 3 * unit)]), given_)  # v = 3·d
    torch.testing.assert_close(written @ unit, torch.full((2, TOKENS), 3 * alpha), rtol=1e-4, atol=1e-5)


def test_a_tied_head_keeps_the_embedding_that_the_input_loses(torch):
    from capvec.publish.bake.edit import orthogonalise, put
    from capvec.publish.bake.writers import Writer

    model = torch.nn.Module()
    model.embed, model.head = torch.nn.Embedding(8, D), torch.nn.Linear(D, 8, bias=False)
    model.head.weight = model.embed.weight
    kept = model.head.weight.detach().clone()
    put(model, orthogonalise([Writer("embed", model.embed)], unit_vector(torch, 0)))
    assert torch.equal(model.head.weight, kept)
    assert not torch.allclose(model.embed.weight, kept)


@quick
@given(seeds)
def test_what_bfloat16_costs_is_below_its_rounding_and_float32_costs_nothing(torch, writer, seed):
    from capvec.publish.bake.edit import add_bias, left_over, lost_bias, orthogonalise

    made, _ = writer("linear", seed)
    unit = unit_vector(torch, seed)
    shifts = [(made, 3 * unit)]
    # bfloat16's numbers lie 2⁻⁷ apart at 1, so rounding moves each element, and thus the vector, by at most 2⁻⁸ of it.
    assert 0 < lost_bias(add_bias(shifts), shifts, torch.bfloat16) <= 2**-8
    assert lost_bias(add_bias(shifts), shifts, torch.float32) == 0
    edit = orthogonalise([made], unit)
    largest = 2**-8 * float(torch.linalg.vector_norm(edit.tensors["writer.weight"]))
    back = left_over(edit, [made], unit, torch.bfloat16)
    assert back <= largest / float(torch.linalg.vector_norm(unit @ made.weight))
    assert left_over(edit, [made], unit, torch.float32) < back
