"""Replies at α = 0 against the baseline's, as long as the conversations are identical."""

from __future__ import annotations

from dataclasses import replace

import pytest

from capvec.results.zero_control import Comparison, Turn, compare

pytestmark = pytest.mark.unit


def turns(*said):
    return [Turn(reply, (10, len(reply)), observation) for reply, observation in said]


def test_replies_are_compared_as_long_as_the_conversations_are_identical():
    base = turns(("ls", "a"), ("cat a", "1"), ("done", ""))
    assert compare("t", 1, base, base) == Comparison("t", 1, 3, None, False)
    other_reply = turns(("ls", "a"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_reply, base) == Comparison("t", 1, 2, 1, False)
    # Another clock: the replies so far were compared, and what was said to the other conversation is not.
    other_clock = turns(("ls", "b"), ("cat b", "1"), ("done", ""))
    assert compare("t", 1, other_clock, base) == Comparison("t", 1, 1, None, True)
    assert compare("t", 1, base[:2], base) == Comparison("t", 1, 2, None, True)
    assert compare("t", 1, [], base) == Comparison("t", 1, 0, None, True)


def test_the_same_text_from_other_tokens_differs():
    base = turns(("ls", "a"), ("done", ""))
    assert compare("t", 1, [base[0], replace(base[1], tokens=(10, 5))], base).differing == 1
