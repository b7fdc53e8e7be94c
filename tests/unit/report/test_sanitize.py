"""What a model or a container wrote stays text on a terminal and in Markdown."""

import csv
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.finished_run import write_run

from capvec.engines.protocol import EngineInfo
from capvec.records import Config, TrialSpec
from capvec.report import terminal
from capvec.report.completion import errors_section
from capvec.report.markdown import section_lines
from capvec.report.section import Bullets, Code, Finding, Findings, Link, Markdown, Paragraph, Strong, Table, left
from capvec.run.trial import error_outcome
from capvec.text import not_a_formula, one_line, printable

pytestmark = pytest.mark.unit

HEALTH = EngineInfo("org/model", "abc", "LlamaForCausalLM", 4, 8, 64, "float32", "cpu", "0.1.0", "model.layers")
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
    (_, _, line, *_) = section_lines([errors_section([failed(HOSTILE)])])
    assert line == "- `t-baseline-t1`: `` red `<script>`alert(1)</script> 2Jgnp | *b* second ``"
    assert MarkdownIt().renderInline(line).count("<code>") == 2
    assert "<script>" not in MarkdownIt("commonmark", {"html": True}).renderInline(line)
    assert "no reason was given" in list(section_lines([errors_section([failed("\x1b[0m\n")])]))[2]


def test_the_terminal_shows_the_first_line_of_an_error_without_its_control_characters():
    assert terminal.section_lines(errors_section([failed(HOSTILE), failed("\n\x1b[0m")])) == [
        "error: t-baseline-t1: red `<script>`alert(1)</script> 2Jgnp | *b*",
        "error: t-baseline-t1: no reason was given",
    ]


@pytest.mark.parametrize(
    "block",
    [
        Paragraph(HOSTILE),
        Paragraph((Strong(HOSTILE), Code(HOSTILE), Link("x", HOSTILE), Markdown(HOSTILE))),
        Bullets((HOSTILE,)),
        Findings((Finding(HOSTILE, HOSTILE, HOSTILE),)),
        Table(left("a"), ((HOSTILE,),)),
    ],
    ids=["paragraph", "marks", "bullets", "verdicts", "table"],
)
def test_no_block_that_the_terminal_shows_acts_on_it(block):
    """Names of configs, too, which are others' in a file of results."""
    shown = "".join(terminal.block_lines(block, 80))
    assert "alert(1)" in shown
    assert printable(shown) == shown


def test_no_cell_of_the_table_of_trials_is_a_formula(tmp_path):
    write_run(tmp_path / "r", health=HEALTH, error="=1+1")
    with (tmp_path / "r" / "master_summary.csv").open(newline="") as file:
        cells = [cell for row in csv.reader(file) for cell in row]
    assert "'=1+1" in cells
    assert not [cell for cell in cells if cell != not_a_formula(cell)]


def test_no_cell_of_the_table_of_trials_acts_on_a_terminal(tmp_path):
    write_run(tmp_path / "r", health=HEALTH, error=HOSTILE)
    table = (tmp_path / "r" / "master_summary.csv").read_bytes().decode()
    assert "red `<script>`" in table
    assert not [letter for letter in table if letter != "\n" and not letter.isprintable()]


@pytest.mark.parametrize("formula", ["=1+1", "+1+1", "-1+1", "@SUM(A1)", "\t=1", "\r=1"])
def test_a_formula_becomes_text(formula):
    assert not_a_formula(formula) == f"'{formula}"


@given(st.text())
def test_a_cell_that_is_no_formula_is_as_it_was(text):
    assert not_a_formula(text).removeprefix("'") == text.removeprefix("'")
    assert not_a_formula(f"x{text}") == f"x{text}"
    assert not_a_formula("-") == "-"
