"""What a model or a container wrote stays text on a terminal and in Markdown."""

import ast
import csv
import json
import re
import unicodedata
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markdown_it import MarkdownIt
from support.finished_run import write_run

from capvec.commands.main import main
from capvec.engines.protocol import EngineInfo
from capvec.records import Config, TrialSpec
from capvec.report import terminal
from capvec.report.charts.canvas import Chart, Mark
from capvec.report.completion import errors_section
from capvec.report.html.environment import svg
from capvec.report.html.page import page
from capvec.report.html.viewer import Embedded
from capvec.report.markdown import markdown, section_lines
from capvec.report.section import (
    Bullets,
    Code,
    Figure,
    Finding,
    Findings,
    Heading,
    Link,
    Markdown,
    Paragraph,
    Program,
    Report,
    Section,
    Strong,
    Table,
    TrialMatrix,
    left,
)
from capvec.run.trial import error_outcome
from capvec.text import not_a_formula, one_line, printable, visible

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


HIDDEN = ("Cc", "Cf", "Cs", "Zl", "Zp")
"""Unicode's categories of what cannot be seen and of what begins a line for some readers."""
CONTROLS = [
    chr(code) for code in (*range(1, 32), *range(127, 160), 0x200E, 0x200F, *range(0x2028, 0x202F), 0x2066, 0xFEFF)
]


def unseen(text):
    """The letters of a text that act on a reader, or that no reader sees."""
    return {letter for letter in text if letter not in "\n\t" and unicodedata.category(letter) in HIDDEN}


@given(st.text() | st.text(st.sampled_from([*CONTROLS, "\0", "\ud800", "a", "\\"])))
def test_what_cannot_be_seen_is_shown_as_an_escape_and_the_rest_as_it_is(text):
    shown = visible(text)
    assert not unseen(shown)
    assert visible(shown) == shown
    shown.encode()  # no half character
    if "\\" not in text:  # read back as Python reads escapes
        assert re.sub(r"\\(?:r|x..|u....|U........)", lambda found: ast.literal_eval(f"'{found[0]}'"), shown) == text


@given(st.text(st.sampled_from([*CONTROLS, "\0", "\ud800", "a", "<", "*", "`"]), max_size=12))
def test_no_block_of_a_report_holds_what_cannot_be_seen_in_any_format(text):
    mark = Mark("text", {"class": text}, text=text, tip=text)
    figure = Figure(*(Chart("c", text, text, text, 10, 10, (mark,)) for _ in range(2)))
    blocks = [
        Heading(text),
        Paragraph((Strong(text), Code(text), Link("x", text), Markdown(text), text)),
        Bullets((text, Code(text))),
        Program("text", text),
        Findings((Finding(text, text, text),)),
        Table(left(text), ((text,), (Code(text),))),
        figure,
        TrialMatrix({text: [text]}, (text,), text, {}, figure.wide),
    ]
    report = Report(text, text, (Section("a", text, tuple(blocks), folded=text),), warnings=(text,), about=text)
    trial = {"task": text, "config": text, "attempt": 1, "steps": []}
    html = page(report, Embedded((trial,), (), 0, 0, 0), [text], [text])
    (data,) = re.findall(r'<script type="application/json" id="trials">(.*)</script>', html)
    names = [name for key in ("tasks", "configs") for name in json.loads(data)[key]]
    for drawn in (markdown(report), html, svg(figure.wide), *names, json.loads(data)["trials"][0]["task"]):
        assert not unseen(drawn)


def test_names_of_results_made_elsewhere_are_visible_in_every_file_of_the_report(tmp_path, capsys):
    odd = f"n{''.join(CONTROLS)}e"
    rows = [
        {"task": f"t{odd}{task}", "config": config, "passed": task % 2 == 0, "error": odd if task == 7 else None}
        for config in ("baseline", f"c{odd}", f"c{odd}2")
        for task in range(8)
    ]
    (tmp_path / "r.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert main(["judge", str(tmp_path / "r.jsonl"), "--out", str(tmp_path / "report")]) == 1
    files = [path for path in (tmp_path / "report").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} >= {".md", ".html", ".svg", ".csv", ".json"}
    for path in files:
        assert not unseen(path.read_bytes().decode()), path
    assert not unseen(capsys.readouterr().out)
    escaped = json.dumps(odd)[1:-1]
    assert "\\\\x1b" in (tmp_path / "report/RESULTS.md").read_text()  # a backslash, escaped for Markdown
    assert "c" + visible(odd) in (tmp_path / "report/report.html").read_text()
    assert escaped in (tmp_path / "report/results.jsonl").read_text()


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
