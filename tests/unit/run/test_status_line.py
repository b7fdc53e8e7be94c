"""The line below everything else, as a terminal shows it; and the plain lines of a log."""

from __future__ import annotations

import os
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.terminal import Screen

from capvec.run import status_line
from capvec.run.progress import Tally, Work
from capvec.run.status_line import ProgressDisplay, StatusLine, can_redraw, progress_on_stdout

pytestmark = pytest.mark.unit

PIECES = ("x", "some words ", "\n", "a line\n", "y" * 30, "\nz")
"""What a program may write, on a terminal of 20 columns."""


@pytest.fixture
def wide(monkeypatch):
    monkeypatch.setattr(status_line.shutil, "get_terminal_size", lambda: os.terminal_size((80, 24)))


def test_the_line_is_below_the_cursor_and_what_is_half_written_goes_on():
    screen = Screen(columns=40, rows=5)
    line = StatusLine(screen.write)
    screen.write("tests Su")
    line.show("1 of 3")
    assert screen.lines == ["tests Su", "1 of 3"]
    line.hide()
    screen.write("S")
    line.show("2 of 3")
    assert screen.lines == ["tests SuS", "2 of 3"]
    line.show("3")
    assert screen.lines == ["tests SuS", "3"]
    line.hide()
    screen.write("\nend\n")
    assert screen.lines == ["tests SuS", "end"]


def test_at_the_bottom_of_the_screen_the_line_makes_room_for_itself_once():
    screen = Screen(columns=40, rows=3)
    line = StatusLine(screen.write)
    for number in range(6):
        line.hide()
        screen.write(f"trial {number}\n")
        line.show(f"{number + 1} of 6")
    assert screen.lines == [*(f"trial {number}" for number in range(6)), "", "6 of 6"]
    line.hide()
    assert screen.lines == [f"trial {number}" for number in range(6)]


@settings(max_examples=40)
@given(st.lists(st.sampled_from(PIECES), max_size=20), st.integers(2, 6))
def test_what_is_left_in_the_end_is_what_would_be_there_without_it(pieces, rows):
    plain, screen = Screen(columns=20, rows=rows), Screen(columns=20, rows=rows)
    line = StatusLine(screen.write)
    for number, piece in enumerate(pieces):
        plain.write(piece)
        line.hide()
        screen.write(piece)
        # Exactly at the edge, terminals differ in where the cursor is: see Screen.
        if not screen.at_the_edge:
            line.show(f"{number} done")
    line.hide()
    assert screen.lines == plain.lines


def test_hiding_what_is_not_shown_writes_nothing():
    written = []
    line = StatusLine(written.append)
    line.hide()
    line.show("x")
    line.hide()
    written.clear()
    line.hide()
    assert written == []


@pytest.mark.usefixtures("wide")
def test_live_progress_is_redrawn_in_place_and_lines_said_meanwhile_stay():
    screen, now = Screen(), [0.0]
    display = ProgressDisplay(screen.write, live=True, clock=lambda: now[0])
    display.update(Tally(left=4))
    assert screen.lines == ["", "capvec: 0/4 trials · 0 solved · 0 unsolved · 0 errors · …"]
    now[0] = 30.0
    display.update(Tally(solved=1, unsolved=2, left=1))
    display.say("capvec: error: the engine went away")
    assert screen.lines == [
        "capvec: error: the engine went away",
        "",
        "capvec: 3/4 trials · 1 solved · 2 unsolved · 0 errors · 6/min · about 10 s left",
    ]
    display.hide()
    assert screen.lines == ["capvec: error: the engine went away"]


@pytest.mark.usefixtures("wide")
def test_what_does_not_answer_takes_the_place_of_the_time_that_is_left():
    screen, trouble = Screen(), [""]
    display = ProgressDisplay(screen.write, live=True, trouble=lambda: trouble[0])
    display.update(Tally(solved=3, left=4))
    trouble[0] = "the engine has not answered for 14 s"
    display.redraw()
    assert screen.lines[-1] == "3/7 · 3 solved · 0 errors · the engine has not answered for 14 s"
    trouble[0] = ""
    display.redraw()
    assert "engine" not in screen.lines[-1]


def test_another_thread_draws_nothing_into_what_is_being_written():
    screen = Screen()
    display = ProgressDisplay(screen.write, live=True)
    display.update(Tally(left=4))
    with display.out_of_the_way():
        thread = threading.Thread(target=display.redraw)
        thread.start()
        thread.join(0.1)
        assert thread.is_alive()
        assert screen.lines in ([], [""])
    thread.join()
    assert "0/4" in screen.lines[-1]


@pytest.mark.usefixtures("wide")
def test_where_nothing_runs_nothing_is_drawn():
    written = []
    display = ProgressDisplay(written.append, live=True)
    display.redraw()
    display.update(Tally())
    display.hide()
    assert written == []


@pytest.mark.parametrize("columns", [20, 40, 80, 120])
def test_the_line_never_reaches_the_last_column(monkeypatch, columns):
    monkeypatch.setattr(status_line.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 5)))
    screen = Screen(columns=columns, rows=5)
    ProgressDisplay(screen.write, live=True).update(Tally(left=9999))
    assert len(screen.lines) == 2
    assert len(screen.lines[1]) < columns


def test_a_log_gets_one_plain_line_at_each_quarter():
    written, now = [], [0.0]
    display = ProgressDisplay(written.append, live=False, clock=lambda: now[0])
    for done in range(21):
        now[0] = 30.0 * done
        display.update(Tally(unsolved=done, left=20 - done))
    assert [line.split(" ")[1] for line in written] == ["5/20", "10/20", "15/20", "20/20"]
    assert written[0] == "capvec: 5/20 trials · 0 solved · 5 unsolved · 0 errors · 2/min · about 8 min left\n"
    assert "\x1b" not in "".join(written)


def test_a_log_of_fewer_trials_than_quarters_gets_one_line_for_each():
    written = []
    display = ProgressDisplay(written.append, live=False)
    for done in range(4):
        display.update(Tally(solved=done, left=3 - done))
    assert [line.split(" ")[1] for line in written] == ["1/3", "2/3", "3/3"]


def test_only_a_terminal_that_somebody_watches_is_redrawn():
    assert can_redraw(True, {"TERM": "xterm-256color"})
    assert not can_redraw(False, {"TERM": "xterm"})
    for environ in ({"TERM": "dumb"}, {}, {"TERM": "xterm", "CI": "true"}, {"TERM": "xterm", "BUILD_NUMBER": "7"}):
        assert not can_redraw(True, environ)
    assert can_redraw(True, {"TERM": "xterm", "CI": ""})


def test_a_command_whose_output_is_a_pipe_writes_plain_lines(capsys):
    with progress_on_stdout(at_a_time=2) as progress:
        progress.update(Tally(left=2))
        progress.update(Tally(solved=1, left=1))
        progress.say("capvec: error: b")
        progress.update(Tally(solved=1, errors=1))
    assert capsys.readouterr().out.splitlines() == [
        "capvec: 1/2 trials · 1 solved · 0 unsolved · 0 errors · …",
        "capvec: error: b",
        "capvec: 2/2 trials · 1 solved · 0 unsolved · 1 error",
    ]


@pytest.mark.usefixtures("wide")
def test_other_work_names_what_is_done_and_each_kind_has_its_own_clock():
    screen, now = Screen(), [0.0]
    display = ProgressDisplay(screen.write, live=True, clock=lambda: now[0])
    display.update(Work("images ready", 0, 10, ("first",)))
    assert screen.lines == ["", "capvec: 0/10 images ready · now first · …"]
    now[0] = 100.0
    display.update(Work("tasks checked", 0, 10, ("first", "second", "third")))
    now[0] = 130.0
    display.update(Work("tasks checked", 3, 7, ("fourth", "fifth")))
    assert screen.lines == ["", "capvec: 3/10 tasks checked · now fourth, fifth · 6/min · about 2 min left"]


@pytest.mark.parametrize("columns", range(8, 120, 7))
def test_long_names_leave_room_for_the_counts(monkeypatch, columns):
    monkeypatch.setattr(status_line.shutil, "get_terminal_size", lambda: os.terminal_size((columns, 5)))
    screen = Screen(columns=columns, rows=5)
    ProgressDisplay(screen.write, live=True).update(Work("tasks checked", 1, 2, ("x" * 60, "y" * 60)))
    assert len(screen.lines[1]) < columns
    assert "1/3" in screen.lines[1]


def test_a_log_hears_of_other_work_every_few_seconds():
    written, now = [], [0.0]
    display = ProgressDisplay(written.append, live=False, clock=lambda: now[0])
    for done in range(41):
        now[0] = 1.0 * done
        display.update(Work("tasks checked", done, 40 - done, ("one",)))
    assert [line.split(" ")[1] for line in written] == ["10/40", "20/40", "30/40", "40/40"]
    assert written[0] == "capvec: 10/40 tasks checked · now one · 60/min · about 30 s left\n"
