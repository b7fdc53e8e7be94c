"""How a plan is dealt to shards."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.plan.dealing import Dealing, deal
from capvec.plan.option_parsers import Shard

pytestmark = pytest.mark.unit


@st.composite
def plans(draw):
    """Tasks, attempts, a seed, and a number of shards that they fill."""
    tasks = draw(st.lists(st.text("abcXYZ0-._", min_size=1, max_size=8), min_size=1, max_size=30, unique=True))
    attempts = draw(st.integers(1, 6))
    return tasks, attempts, draw(st.integers(0, 99)), draw(st.integers(1, len(tasks) * attempts))


def every(plan):
    tasks, attempts, seed, of = plan
    return [deal(Shard(number, of), tasks, attempts, seed) for number in range(1, of + 1)]


@settings(max_examples=50, deadline=None)
@given(plans())
def test_every_task_and_attempt_is_in_exactly_one_shard_and_sizes_differ_by_one_at_most(plan):
    tasks, attempts, _, _ = plan
    parts = [dealing.here for dealing in every(plan)]
    dealt = [block for part in parts for block in part]
    assert sorted(dealt) == sorted((task, attempt) for task in tasks for attempt in range(1, attempts + 1))
    assert min(map(len, parts)) >= 1
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@settings(max_examples=50, deadline=None)
@given(plans())
def test_a_shard_prepares_as_few_tasks_as_its_attempts_allow(plan):
    _, attempts, _, _ = plan
    for dealing in every(plan):
        here = dealing.here
        # All attempts at a task follow each other: only the first and the last task may be shared with another shard.
        assert len({task for task, _ in here}) <= (len(here) - 1) // attempts + 2


@settings(max_examples=50, deadline=None)
@given(plans(), st.randoms(use_true_random=False))
def test_what_a_shard_gets_depends_on_no_order_of_the_tasks_and_on_no_other_shard(plan, random):
    tasks, attempts, seed, of = plan
    shuffled = random.sample(tasks, len(tasks))
    assert [one.here for one in every(plan)] == [one.here for one in every((shuffled, attempts, seed, of))]
    for dealing in every(plan):
        assert Dealing.from_json(dealing.to_json()) == dealing
        assert dealing.here | dealing.elsewhere == set(dealing.blocks)
        assert not dealing.here & dealing.elsewhere


def test_another_seed_deals_otherwise():
    tasks = [f"task{number}" for number in range(20)]
    assert deal(Shard(1, 4), tasks, 1, seed=0).here != deal(Shard(1, 4), tasks, 1, seed=1).here


def test_more_shards_than_there_are_to_fill_are_refused_with_the_most():
    with pytest.raises(UsageError, match=r"--shard 1/7: the plan has 6 \(task, attempt\) pairs.* at most 6 shards"):
        deal(Shard(1, 7), ["a", "b", "c"], 2, 0)


@pytest.mark.parametrize(
    "change",
    [{"of": 0}, {"of": 9}, {"shards": []}, {"shards": [3]}, {"shards": [0]}, {"attempts": 10**9}, {"attempts": -1}],
)
def test_a_dealing_that_no_capvec_wrote_is_refused(change):
    data = Dealing(2, (1,), ("a", "b"), 2, 0).to_json()
    with pytest.raises(UsageError, match="not a Dealing record"):
        Dealing.from_json(data | change)


def test_it_says_which_shards_it_holds():
    assert Dealing(8, (3,), tuple("abcdefgh"), 1, 0).in_words == "shard 3 of 8"
    assert Dealing(8, (1, 2, 4), tuple("abcdefgh"), 1, 0).in_words == "shards 1, 2 and 4 of 8"
    assert Dealing(3, (1, 3), tuple("abc"), 1, 0).absent == (2,)
