"""Holm's rule."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.stats.multiplicity import holm

pytestmark = pytest.mark.unit


@given(st.lists(st.floats(0, 1), max_size=6))
def test_holm_rejects_what_its_step_down_rule_rejects(pvalues):
    adjusted = holm(pvalues)
    # Step by step: the smallest against 0.05/m, the next against 0.05/(m − 1), until one fails.
    rejected, order = set(), sorted(range(len(pvalues)), key=pvalues.__getitem__)
    for step, index in enumerate(order):
        if pvalues[index] * (len(pvalues) - step) >= 0.05:
            break
        rejected.add(index)
    assert {index for index, p in enumerate(adjusted) if p < 0.05} == rejected
    assert all(p <= q <= 1 for p, q in zip(pvalues, adjusted, strict=True))


def test_holm_refuses_what_is_no_p_value():
    with pytest.raises(ValueError, match="expected each from 0 to 1"):
        holm([0.1, 1.2])
