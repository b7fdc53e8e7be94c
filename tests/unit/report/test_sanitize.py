"""What a model or a container wrote stays text on a terminal and in Markdown."""

from dataclasses import replace

import pytest
from capvec.report.html.markup import inline
from capvec.report.results_md import _errors
from hypothesis import given
from hypothesis import strategies as st

from capvec.records import Config, TrialSpec
from capvec.report.terminal import _errors as terminal_errors
from capvec.run.trial import error_outcome
from capvec.text import code, one_line, printable

pytestmark = pytest.mark.unit

HOSTILE = "\x1b[31mred\x1b[0m \x1b]0;title\x07`<script>`alert(1)</script>\r\x9b2J\u202egnp\ud800 | *b*\nsecond"


def failed(error):
    return replace(
        error_outcome("r", TrialSpec("t", "baseline", 1, 7), Config("baseline", "baseline"), ""), error=error
    )


@given(st.text() | st.just(HOSTILE))
def test_nothing_that_acts_on_a_terminal_is_left_and_what_can_be_seen_is(text):
    shown = printable(text)
    assert not {letter for letter in shown if letter != "\n" and (letter < " " or "\x7f" <= letter < "\xa0")}
    shown.encode()  # no half character, which no file could hold
    seen = [letter for letter in text if letter.isalnum()] if "\x1b" not in text else []
    assert not seen or [letter for letter in shown if letter.isalnum()] == seen


def test_escape_sequences_go_with_all_that_belongs_to_them():
    assert (
        printable("\x1b[1;31mred\x1b[0m and \x1b]8;;http://x\x1b\\a link\x1b]8;;\x1b\\\nnext") == "red and a link\nnext"
    )
    assert printable("\x1b]0;never ended") == ""
    assert one_line("a\u2028b\r\n c\x00" + "d" * 500) == "a b cd" + "d" * 294


def test_an_error_is_a_code_span_in_which_no_html_and_no_markdown_is_read():
    (_, line, _) = _errors([failed(HOSTILE)])
    assert line == "- `t-baseline-t1`: `red '<script>'alert(1)</script> 2Jgnp | *b* second`"
    assert inline(line).count("<code>") == 2
    assert "<script>" not in inline(line)
    assert code("\x1b[0m\n") == ""
    assert list(_errors([failed("")]))[1] == "- `t-baseline-t1`: no reason was given"


def test_the_terminal_shows_the_first_line_of_an_error_without_its_control_characters():
    assert list(terminal_errors([failed(HOSTILE), failed("\n\x1b[0m")])) == [
        "error: t-baseline-t1: red `<script>`alert(1)</script> 2Jgnp | *b*",
        "error: t-baseline-t1: no reason was given",
    ]
