"""How far the trials are, in numbers and in words."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.run.progress import WINDOW, Progress, Tally, in_words, per_time

pytestmark = pytest.mark.unit

counts = st.integers(0, 5000)
tallies = st.builds(Tally, counts, counts, counts, counts)


def steadily(trials: int, seconds: float, *, left: int = 0, at_a_time: int = 1, start: float = 100.0) -> Progress:
    """A trial ends every so many seconds."""
    progress = Progress.begin(Tally(left=trials + left), start, at_a_time=at_a_time)
    for number in range(1, trials + 1):
        tally = Tally(unsolved=number, left=trials + left - number)
        progress = progress.at(tally, start + number * seconds)
    return progress


@pytest.fixture
def on_the_way():
    """57 of 210, one every 5 s, which is 12 a minute; the 153 left take 765 s, which is under 13 minutes."""
    progress = Progress.begin(Tally(left=210), 0.0)
    for number in range(1, 58):
        solved, errors = min(number, 21), number // 57
        progress = progress.at(Tally(solved, number - solved - errors, errors, 210 - number), 5.0 * number)
    return progress


def test_a_tally_counts_each_outcome_and_what_is_left():
    tally = Tally.of(["solved", "unsolved", "error", "unsolved"], left=6)
    assert tally == Tally(solved=1, unsolved=2, errors=1, left=6)
    assert (tally.done, tally.total) == (4, 10)


def test_before_a_few_trials_have_ended_no_time_is_said():
    assert steadily(2, 5.0, left=8).seconds_left is None
    # One every 5 s: eight left take 40 s.
    assert steadily(3, 5.0, left=8).seconds_left == pytest.approx(40)
    # With 8 at a time, three that have ended stand for the time of eight.
    assert steadily(7, 5.0, left=8, at_a_time=8).seconds_left is None
    assert steadily(8, 5.0, left=8, at_a_time=8).seconds_left == pytest.approx(40)


def test_trials_that_are_taken_off_the_plan_take_no_time():
    progress = steadily(10, 5.0, left=100)
    assert progress.seconds_left == pytest.approx(500)
    stopped = progress.at(Tally(unsolved=10, left=20), 150.0)
    assert stopped.seconds_left == pytest.approx(100)
    assert stopped.tally.total == 30


def test_the_rate_is_that_of_the_latest_trials():
    progress = steadily(WINDOW, 1.0, left=1000)
    assert progress.rate == pytest.approx(1.0)
    for number in range(1, WINDOW + 1):  # from now on, four times slower
        progress = progress.at(Tally(unsolved=WINDOW + number, left=1000 - number), 100 + WINDOW + 4.0 * number)
    assert progress.rate == pytest.approx(0.25)
    assert len(progress.ends) == WINDOW + 1


def test_trials_that_end_at_the_same_moment_as_the_start_give_no_rate():
    progress = Progress.begin(Tally(left=9), 0.0).at(Tally(solved=5, left=4), 0.0)
    assert progress.rate is None


def test_the_line_says_trials_outcomes_rate_and_time_left(on_the_way):
    assert on_the_way.line(100) == (
        "capvec: 57/210 trials · 21 solved · 35 unsolved · 1 error · 12/min · about 13 min left"
    )


def test_at_the_beginning_dots_stand_for_the_time_and_at_the_end_there_is_none():
    progress = Progress.begin(Tally(left=4), 0.0)
    assert progress.line(100) == "capvec: 0/4 trials · 0 solved · 0 unsolved · 0 errors · …"
    done = progress.at(Tally(solved=4), 60.0)
    assert done.line(100) == "capvec: 4/4 trials · 4 solved · 0 unsolved · 0 errors · 4/min"


def test_a_narrow_terminal_keeps_what_matters_most(on_the_way):
    assert on_the_way.line(79) == "capvec: 57/210 trials · 21 solved · 35 unsolved · 1 error · about 13 min left"
    assert on_the_way.line(60) == "57/210 · 21 solved · 1 error · about 13 min left"
    assert on_the_way.line(40) == "57/210 · about 13 min left"
    assert on_the_way.line(10) == "57/210"
    assert on_the_way.line(5) == ""


def test_what_does_not_answer_matters_most(on_the_way):
    trouble = "Docker has not answered for 14 s"
    assert on_the_way.line(120, trouble) == f"capvec: 57/210 trials · 21 solved · 35 unsolved · 1 error · {trouble}"
    assert on_the_way.line(34, trouble) == trouble
    assert on_the_way.line(10, trouble) == "57/210"


@settings(max_examples=30)
@given(tallies, tallies, st.floats(0.0, 1e6), st.integers(0, 120), st.sampled_from(["", "Docker has not answered"]))
def test_whatever_the_numbers_the_line_fits_and_is_one_line(before, after, seconds, width, trouble):
    line = Progress.begin(before, 0.0).at(after, seconds).line(width, trouble)
    assert len(line) <= width
    assert "\n" not in line


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "about 10 s"),
        (31, "about 40 s"),
        (50, "about 50 s"),
        (51, "about 1 min"),
        (61, "about 2 min"),
        (765, "about 13 min"),
        (89 * 60, "about 89 min"),
        (90 * 60, "about 1 h 30 min"),
        (2 * 3600 + 61, "about 2 h 10 min"),
        (3 * 3600 - 1, "about 3 h"),
    ],
)
def test_a_duration_in_words_is_rounded_up(seconds, words):
    assert in_words(seconds) == words


@settings(max_examples=30)
@given(st.floats(0, 1e7), st.floats(0, 1e7))
def test_a_longer_duration_is_never_said_to_be_shorter(one, other):
    def stated(seconds: float) -> int:
        words = in_words(seconds).split()
        units = {"s": 1, "min": 60, "h": 3600}
        return sum(int(number) * units[unit] for number, unit in zip(words[1::2], words[2::2], strict=True))

    low, high = sorted((one, other))
    assert stated(low) <= stated(high)
    assert stated(low) >= low


@pytest.mark.parametrize(("rate", "words"), [(0.2, "12/min"), (1 / 30, "2/min"), (1 / 90, "40/h"), (2.5, "150/min")])
def test_a_rate_is_per_minute_or_where_that_is_little_per_hour(rate, words):
    assert per_time(rate) == words
