"""What a check says of a task."""

from __future__ import annotations

import pytest

from capvec.run.checked import Attempt, TaskCheck

pytestmark = pytest.mark.unit


def test_a_reward_just_below_the_threshold_does_not_read_like_it() -> None:
    solution = Attempt(0.6499999)
    check = TaskCheck("greet", Attempt(0.0), solution, 1.0, networked=False, solved_at=0.65)
    assert check.problem == "its own solution is judged 0.6499999, and must be judged at least 0.65"
