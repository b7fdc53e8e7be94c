"""Which copy of a model serves a request."""

from __future__ import annotations

from contextlib import ExitStack

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.engines.vllm.replicas import CHUNK, SLACK, Replica, Replicas

pytestmark = pytest.mark.unit


def copies(count):
    return Replicas([Replica(number) for number in range(count)], client=None)


def talk(number, turns=1):
    """A prompt of so many turns; prompts of different conversations differ from the start."""
    return [number * 1000 + at for at in range(2 * CHUNK * turns)]


def serve(replicas, *arguments):
    with replicas.serving(*arguments) as replica:
        return replica.number


@given(st.integers(1, 5), st.integers(1, 40))
def test_requests_that_share_nothing_are_spread_evenly(count, requests):
    replicas = copies(count)
    with ExitStack() as running:
        for number in range(requests):
            running.enter_context(replicas.serving("", talk(number)))
        loads = [replica.requests for replica in replicas]
        assert max(loads) - min(loads) <= 1
        assert sum(loads) == requests
    assert [replica.requests for replica in replicas] == [0] * count


def test_the_next_turn_of_a_conversation_goes_where_the_one_before_was_served():
    replicas = copies(3)
    with ExitStack() as running:
        first = [running.enter_context(replicas.serving("", talk(number))).number for number in range(6)]
    assert set(first) == {0, 1, 2}
    assert [serve(replicas, "", talk(number, turns=2)) for number in range(6)] == first


def test_a_conversation_under_other_steers_has_no_home():
    replicas = copies(2)
    with replicas.serving("one", talk(0)), replicas.serving("other", talk(0)) as other:
        assert other.number == 1


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 3)), max_size=60))
def test_a_copy_with_a_shared_beginning_never_has_more_than_the_slack_beyond_the_others(events):
    replicas, running = copies(2), []
    for begins, number in events:
        if begins or not running:
            one = replicas.serving("", [*talk(0), *talk(number + 1)])
            chosen = one.__enter__()
            least = min(replica.requests for replica in replicas if replica is not chosen)
            assert chosen.requests <= least + SLACK + 1
            running.append(one)
        else:
            running.pop(number % len(running)).__exit__(None, None, None)


def test_a_request_that_fails_is_counted_no_longer():
    replicas = copies(2)
    with pytest.raises(ValueError, match="of the request"), replicas.serving():
        raise ValueError("of the request")
    assert [replica.requests for replica in replicas] == [0, 0]
