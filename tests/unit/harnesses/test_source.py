"""What every source has in common: attempts and the names of configs."""

from __future__ import annotations

from pathlib import Path

import pytest

from capvec.errors import UsageError
from capvec.harnesses import Source, Trial
from capvec.harnesses.source import with_attempts

pytestmark = pytest.mark.unit


def trial(attempt=None, config="x", task="a"):
    return Trial(task, config, "solved", attempt)


def test_attempts_count_in_their_order_from_one():
    assert [one.attempt for one in with_attempts([trial(), trial(task="b"), trial()], "f")] == [1, 1, 2]
    assert [one.attempt for one in with_attempts([trial(0), trial(1)], "f")] == [1, 2]  # numbered from 0


def test_one_number_for_two_trials_is_refused():
    with pytest.raises(UsageError, match=r"attempt 2 of task a under x is there twice"):
        with_attempts([trial(2), trial(1), trial(2)], "f")


def test_one_name_does_not_stand_for_several_configs():
    source = Source(Path("f"), "a tool", (trial(config="x"), trial(config="y")))
    with pytest.raises(UsageError, match=r"several configs \(x, y\)"):
        source.called("steered")
