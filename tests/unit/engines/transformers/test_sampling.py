"""Gumbel-max sampling: the right distribution, from the row's own noise."""

from __future__ import annotations

import pytest
from scipy import stats

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def row_sampler():
    from capvec.engines.transformers.sampling import RowSampler

    return RowSampler


@pytest.mark.parametrize("temperature", [0.5, 1.0])
def test_draws_follow_the_softmax(torch, row_sampler, temperature):
    logits = torch.tensor([0.0, 1.0, 2.0, -1.0])
    sampler = row_sampler(0, temperature)
    counts = torch.bincount(torch.tensor([sampler.draw(logits) for _ in range(4000)]), minlength=4)
    expected = torch.softmax(logits.double() / temperature, 0) * 4000
    # The seed is fixed, so this cannot flake; a sampler with the wrong temperature has p < 1e-30.
    assert stats.chisquare(counts.double().numpy(), expected.numpy()).pvalue > 0.001


def test_temperature_zero_takes_the_most_likely_token(torch, row_sampler):
    assert row_sampler(3, 0.0).draw(torch.tensor([0.0, 5.0, 1.0])) == 1


def test_a_seed_gives_the_same_draws_whatever_others_draw_in_between(torch, row_sampler):
    logits = torch.zeros(50)
    alone = row_sampler(7, 1.0)
    expected = [alone.draw(logits) for _ in range(20)]
    row, mate = row_sampler(7, 1.0), row_sampler(8, 1.0)
    drawn = []
    for _ in range(20):
        mate.draw(logits)
        drawn.append(row.draw(logits))
    assert drawn == expected
    assert len(set(expected)) > 5


def test_any_integer_is_a_seed(torch, row_sampler):
    for seed in (-1, 0, 2**63, 2**70):
        assert 0 <= row_sampler(seed, 1.0).draw(torch.zeros(3)) < 3
