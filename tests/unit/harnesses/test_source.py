"""What every source has in common: attempts, the names of configs, and the scale of rewards."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capvec.errors import UsageError
from capvec.harnesses import Source, Trial
from capvec.harnesses.source import Reading, Scale, check_sources, with_attempts

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


def scored(*rewards, name="column score"):
    return Source(Path("f"), "a tool", (), scale=Scale.of(name, rewards))


REWARDS = st.lists(st.floats(-100, 100), min_size=1, max_size=4)


@given(st.lists(REWARDS, min_size=1, max_size=3))
def test_without_a_threshold_all_rewards_are_from_0_to_1(of_sources):
    sources = [scored(*rewards) for rewards in of_sources]
    bad = [rewards for rewards in of_sources if min(rewards) < 0 or max(rewards) > 1]
    if not bad:
        check_sources(sources, Reading())
        return
    with pytest.raises(UsageError) as refused:
        check_sources(sources, Reading())
    assert f"column score goes from {min(bad[0]):g} to {max(bad[0]):g}" in str(refused.value)
    assert "--solved-at R" in str(refused.value)


@given(st.lists(REWARDS, min_size=1, max_size=3), st.floats(-200, 200))
def test_a_threshold_tells_trials_apart_on_the_scale_of_all_sources(of_sources, solved_at):
    rewards = [0.0, 1.0, *(reward for one in of_sources for reward in one)]
    sources = [scored(*one) for one in of_sources]
    if min(rewards) < solved_at <= max(rewards):
        check_sources(sources, Reading(solved_at=solved_at))
    else:
        every = "every" if solved_at <= min(rewards) else "no"
        with pytest.raises(UsageError, match=f"so that {every} trial would be solved"):
            check_sources(sources, Reading(solved_at=solved_at))


def test_a_threshold_for_outcomes_in_words_is_refused():
    with pytest.raises(UsageError, match="no number decides whether a trial is solved"):
        check_sources([scored()], Reading(solved_at=0.5))


@pytest.mark.parametrize("name", ["column pass@1", "pass@k", "column pass_at_5", "column Pass@10", "pass1"])
def test_shares_of_attempts_are_refused_where_their_name_says_so(name):
    check_sources([scored(0, 1, name=name)], Reading())
    with pytest.raises(UsageError, match=r"holds 0.4, a share of several attempts; expected a row for each attempt"):
        check_sources([scored(0, 0.4, name=name)], Reading())
    check_sources([scored(0, 0.4, name=name)], Reading(solved_at=0.5))
    check_sources([scored(0, 0.4, name="column passed")], Reading())


@given(st.text(st.characters(categories=["Cs", "Ll"])))
def test_names_that_utf_8_cannot_hold_have_escapes(name):
    trial = Trial(name, name, "error", error=name, family=name, split=name)
    assert {trial.task, trial.config, trial.error, trial.family, trial.split} == {trial.task}
    assert trial.task.encode().decode() == name.encode("utf-8", "backslashreplace").decode()


def read_from(*files, name="f", rewards=None):
    return Source(Path(name), "a tool", (), files=tuple(map(Path, files)), rewards=rewards)


def test_a_file_that_is_read_for_two_results_is_refused(tmp_path):
    check_sources([read_from("a/x"), read_from("a/y")], Reading())
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    for again in ("a/../a/x", Path("a/x").resolve()):
        with pytest.raises(UsageError, match=r"is read for first already; give each file once"):
            check_sources([read_from("a/x", "a/y", name="first"), read_from(again)], Reading())
    with pytest.raises(UsageError, match="give each file once"):
        check_sources([read_from(tmp_path / "real" / "x"), read_from(tmp_path / "link" / "x")], Reading())


@pytest.mark.parametrize(
    ("rewards", "asked", "said"),
    [
        ([("acc", "f1")], Reading(reward="em"), "--reward em: the results have acc, f1; expected one of these"),
        ([(), None], Reading(reward="em"), "--reward em: a tool has no rewards with names"),
        ([None], Reading(reward="em"), "name it, as in --columns reward=em"),
        ([("acc",), ()], Reading({"task": "problem"}), "--columns: there is no table, but a tool; leave it out"),
    ],
)
def test_a_reward_or_a_column_that_no_result_has_is_refused(rewards, asked, said):
    with pytest.raises(UsageError, match=said):
        check_sources([read_from(rewards=one) for one in rewards], asked)


def test_a_reward_or_a_column_is_for_those_results_that_have_it():
    of_all = [read_from(rewards=("acc",)), read_from(rewards=None), read_from(rewards=("f1",))]
    check_sources(of_all, Reading({"task": "problem"}, "acc"))
