"""Hooks on the modules that write into the residual: they leave nothing behind, and measure what they say."""

from __future__ import annotations

from contextlib import suppress

import pytest

pytestmark = pytest.mark.unit

D = 6


def test_the_hooks_on_the_writers_are_gone_after_an_exception(torch):
    from capvec.engines.transformers.hooks import ablate_writes, jitter, watch

    module, given_ = torch.nn.Linear(D, D), torch.randn(1, 2, D)
    before = module(given_)
    for context in (ablate_writes([module], torch.eye(D)[0]), jitter([module]), watch([module])):
        with suppress(RuntimeError), context:
            assert len(module._forward_hooks) == 1
            raise RuntimeError
        assert not module._forward_hooks
    assert torch.equal(module(given_), before)


def test_a_jitter_moves_every_element_by_one_rounding(torch):
    from capvec.engines.transformers.hooks import jitter

    module, given_ = torch.nn.Linear(D, D).requires_grad_(False), torch.randn(3, 4, D)
    plain = module(given_)
    with jitter([module]):
        moved = (module(given_).double() / plain.double() - 1).abs()
    # ε = 2⁻²³ relative, itself rounded to a multiple of the element's spacing, which is between ε/2 and ε of it.
    assert float(moved.min()) >= 2**-24
    assert float(moved.max()) <= 2**-22


def test_the_component_left_is_measured_against_the_largest_residual_so_far(torch):
    from capvec.engines.transformers.hooks import component

    # One position whose residual is 3·e₀ and then 1·e₁ + 0.3·e₀: 3/3 of it lies along e₀, then 0.3 of 3.
    states = torch.zeros(2, 1, 1, D)
    states[0, 0, 0, 0], states[1, 0, 0, 0], states[1, 0, 0, 1] = 3.0, 0.3, 1.0
    e0 = torch.eye(D)[0]
    assert component(states, e0) == pytest.approx(1.0)
    states[0, 0, 0] = torch.eye(D)[2] * 3.0
    assert component(states, e0) == pytest.approx(0.1)
