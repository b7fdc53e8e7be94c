"""The speed of an engine, from the seconds that requests took."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.run.capacity import EngineSpeed
from capvec.run.engine_speed import Batch, speed_of

pytestmark = pytest.mark.unit


def batch(speed: EngineSpeed, rows: int, tokens: int = 17) -> Batch:
    """What an engine of this speed takes for so many prompts of 100 tokens."""
    short = speed.reply_s + rows * 100 / speed.prompt_tokens_per_s
    return Batch(rows, rows * 100, short, short + speed.step(rows) * (tokens - 1), tokens)


@given(st.floats(0.001, 1.0), st.floats(0.001, 1.0), st.floats(100, 10**5))
def test_steps_and_prompts_are_found_from_what_batches_took(one, eight, rate):
    speed = EngineSpeed({1: one, 8: eight}, rate, 32)
    found = speed_of([batch(speed, 1), batch(speed, 8)], 32)
    assert found is not None
    assert found.step_s == pytest.approx(speed.step_s)
    assert found.prompt_tokens_per_s == pytest.approx(rate)
    assert found.reply_s == pytest.approx(0.0, abs=1e-9)


def test_what_a_reply_takes_beside_its_tokens_is_not_counted_as_the_prompts():
    speed = EngineSpeed({1: 0.01, 32: 0.01}, 10_000.0, 32, reply_s=0.05)
    found = speed_of([batch(speed, 1), batch(speed, 32)], 32)
    assert found is not None
    assert found.reply_s + 100 / found.prompt_tokens_per_s == pytest.approx(0.06)
    assert found.reply_s == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("tokens", [1, 4])
def test_replies_that_end_at_once_show_no_step(tokens):
    assert speed_of([batch(EngineSpeed({1: 0.01}, 1e4, 32), 1, tokens)], 32) is None


def test_a_batch_that_took_no_longer_for_more_tokens_shows_none():
    assert speed_of([Batch(1, 100, 0.5, 0.4, 17)], 32) is None
