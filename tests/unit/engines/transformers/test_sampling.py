"""Gumbel-max sampling: the right distribution, from the row's own noise."""

from __future__ import annotations

import pytest
from scipy import stats

from capvec.errors import EngineUnavailable

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


def test_seeds_that_are_equal_modulo_a_power_of_two_draw_otherwise(torch, row_sampler):
    def drawn(seed):
        sampler = row_sampler(seed, 1.0)
        return tuple(sampler.draw(torch.zeros(1000)) for _ in range(3))

    assert len({drawn(5 + more) for more in (0, 2**32, 2**33, 2**63, -(2**32), 2**70)}) == 6
    assert drawn(2**63 - 1) == drawn(2**63 - 1)


def test_given_tokens_come_whatever_is_likely_and_a_logit_that_is_no_number_is_a_fault(torch):
    from capvec.engines.transformers.sampling import GivenTokens

    sampler = GivenTokens((2, 0))
    assert [sampler.draw(torch.tensor([0.0, 9.0, -9.0])) for _ in range(2)] == [2, 0]
    with pytest.raises(EngineUnavailable, match="largest logit is nan"):
        GivenTokens((1,)).draw(torch.tensor([float("nan"), 1.0]))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
@pytest.mark.parametrize(
    ("logits", "said"),
    [
        ([0.0, float("nan"), 1.0], "nan"),
        ([0.0, float("inf"), 1.0], "inf"),
        ([float("inf"), float("-inf"), float("nan")], "nan"),
        ([float("-inf")] * 3, "-inf"),
    ],
)
def test_no_token_is_drawn_from_what_is_no_distribution(torch, row_sampler, logits, said, temperature):
    with pytest.raises(EngineUnavailable, match=f"largest logit is {said}, so no token can be drawn"):
        row_sampler(0, temperature).draw(torch.tensor(logits))


@pytest.mark.parametrize("temperature", [0.0, 0.7])
def test_tokens_that_a_model_rules_out_are_not_drawn(torch, row_sampler, temperature):
    sampler = row_sampler(0, temperature)
    assert {sampler.draw(torch.tensor([float("-inf"), 2.0, float("-inf")])) for _ in range(50)} == {1}
