"""Which session of a run ran a trial, whatever the clock said."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.outcomes import outcome

from capvec.errors import UsageError
from capvec.results.sessions import brief, new_session, place_of, sessions_of

pytestmark = pytest.mark.unit

NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)
TRIAL = outcome("baseline", "t")
ANY_TIMES = st.lists(st.timedeltas(-timedelta(days=999), timedelta(days=999)), min_size=2, max_size=6)


def at(moved: timedelta) -> str:
    return (NOON + moved).isoformat()


@given(ANY_TIMES, st.data())
def test_a_trial_is_of_the_session_that_it_names_whatever_the_clock_was_set_to(times, data):
    sessions = [{"session": new_session(), "written": at(moved)} for moved in times]
    place = data.draw(st.integers(0, len(sessions) - 1))
    started = data.draw(st.timedeltas(-timedelta(days=999), timedelta(days=999)))
    assert place_of(sessions, replace(TRIAL, session=sessions[place]["session"], started=at(started))) == place


@given(st.lists(st.integers(0, 1000), min_size=2, max_size=6, unique=True).map(sorted), st.integers(0, 1000))
def test_a_trial_of_an_earlier_capvec_is_of_the_last_session_that_had_begun(minutes, started):
    sessions = [{"written": at(timedelta(minutes=one))} for one in minutes]
    found = place_of(sessions, replace(TRIAL, started=at(timedelta(minutes=started))))
    assert found == max(sum(one <= started for one in minutes) - 1, 0)


def test_a_trial_without_a_session_is_of_none_that_has_an_identity():
    """A run of an earlier capvec was resumed by this one, on a machine whose clock was set back."""
    sessions = [{"written": at(timedelta(hours=1))}, {"session": "b" * 12, "written": at(timedelta(0))}]
    assert place_of(sessions, replace(TRIAL, started=at(timedelta(hours=2)))) == 0


@pytest.mark.parametrize(
    ("named", "started"), [("c" * 12, at(timedelta(hours=2))), ("", "yesterday"), ("", "")], ids=["session", "time", ""]
)
def test_where_nothing_shows_the_session_it_is_one_sentence(named, started):
    sessions = [{"written": at(timedelta(0))}, {"written": at(timedelta(hours=1))}, {"session": "b" * 12}]
    with pytest.raises(UsageError, match="nothing shows which of 3 sessions ran t-baseline-t1, and so what it was"):
        place_of(sessions, replace(TRIAL, session=named, started=started))


def test_a_merged_run_that_is_resumed_knows_the_trials_of_each_part():
    """One part was resumed itself, and one was of an earlier capvec, which kept times alone."""
    first = {"session": "a" * 12, "written": at(timedelta(0))}
    second = {"session": "b" * 12, "written": at(timedelta(hours=1)), "earlier_sessions": [first]}
    parts = [{"sessions": brief(second)}, {"sessions": [at(timedelta(hours=3))]}]
    merged = {**first, "earlier_sessions": [], "merged": parts}
    resumed = {"session": "d" * 12, "written": at(timedelta(-1)), "earlier_sessions": [merged]}
    sessions = sessions_of(resumed)
    named = {"a" * 12: 0, "b" * 12: 0, "": 0, "d" * 12: 1}
    assert {name: place_of(sessions, replace(TRIAL, session=name)) for name in named} == named
    assert [one["session"] for one in brief(resumed)] == ["a" * 12, "b" * 12, "", "d" * 12]
