"""What shapes the logits, held against the processors of transformers."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.engines.generation import Shaping

pytestmark = pytest.mark.unit

VOCABULARY = 40
TOKENS = st.lists(st.integers(0, VOCABULARY - 1), max_size=12)
SHAPINGS = st.builds(
    Shaping,
    top_p=st.sampled_from([1.0, 0.9, 0.5, 0.05]),
    top_k=st.sampled_from([0, 1, 3, 39, 40, 1000]),
    min_p=st.sampled_from([0.0, 0.05, 0.5, 1.0]),
    presence_penalty=st.sampled_from([0.0, 1.5, -2.0]),
    frequency_penalty=st.sampled_from([0.0, 0.7, -1.0]),
    repetition_penalty=st.sampled_from([1.0, 1.3, 0.8]),
    logit_bias=st.dictionaries(st.integers(0, VOCABULARY + 5), st.sampled_from([-100.0, 4.0]), max_size=3),
)
ROWS = st.lists(st.tuples(SHAPINGS, st.sampled_from([0.0, 0.3, 1.0, 1.7]), TOKENS, TOKENS), min_size=1, max_size=5)


def expected(torch, logits, shaping, temperature, prompt, reply):
    """One row by transformers' processors, and the two penalties that it lacks by their formulas."""
    from transformers import (
        MinPLogitsWarper,
        RepetitionPenaltyLogitsProcessor,
        TemperatureLogitsWarper,
        TopKLogitsWarper,
        TopPLogitsWarper,
    )

    scores = logits.clone()[None]
    for token, bias in shaping.logit_bias.items():
        if token < VOCABULARY:
            scores[0, token] += bias
    seen = torch.tensor([[*prompt, *reply]], dtype=torch.long)
    if seen.numel():
        scores = RepetitionPenaltyLogitsProcessor(shaping.repetition_penalty)(seen, scores)
    for token in set(reply):
        scores[0, token] -= shaping.frequency_penalty * reply.count(token) + shaping.presence_penalty
    warpers = [TemperatureLogitsWarper(temperature or 1.0)]
    warpers += [MinPLogitsWarper(shaping.min_p)] if shaping.min_p else []
    warpers += [TopKLogitsWarper(min(shaping.top_k, VOCABULARY))] if shaping.top_k else []
    warpers += [TopPLogitsWarper(shaping.top_p)] if shaping.top_p < 1 else []
    for warper in warpers:
        scores = warper(seen, scores)
    return scores[0]


@settings(max_examples=150, deadline=None)
@given(rows=ROWS, seed=st.integers(0, 1000))
def test_rows_are_shaped_as_transformers_shapes_each_of_them_alone(rows, seed):
    import torch

    from capvec.engines.transformers.shaping import Shaped, shaped

    logits = torch.randn(len(rows), VOCABULARY, generator=torch.Generator().manual_seed(seed)) * 3
    before = logits.clone()
    found = shaped(logits, [Shaped(*row) for row in rows])
    assert torch.equal(logits, before)
    for row, line, got in zip(rows, logits, found, strict=True):
        want = expected(torch, line, *row)
        assert torch.equal(torch.isinf(got), torch.isinf(want))
        assert torch.allclose(got / (row[1] or 1.0), want, rtol=1e-4, atol=1e-4)
        assert torch.isfinite(got).any()
        alone = shaped(line[None], [Shaped(*row)])[0]
        assert torch.equal(got, alone)


def test_what_asks_for_nothing_is_the_model_itself():
    import torch

    from capvec.engines.transformers.shaping import Shaped, shaped

    logits = torch.randn(3, VOCABULARY)
    assert shaped(logits, [Shaped(Shaping(), 0.7, (1,), (2,))] * 3) is logits
