"""Reports as Markdown, read back by markdown-it: text from outside stays the text that it is."""

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from capvec.report.markdown import block_lines
from capvec.report.section import Bullets, Code, Column, Heading, Paragraph, Strong, Table
from capvec.text import printable, visible

pytestmark = pytest.mark.unit

READER = MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"])
SPECIAL = "\\`*_~<>&;[]()!#+-=.:|1a \t\n\r\v\u2028\xa0\x1b\x00\"'"
HOSTILE = (
    "</script><img src=x onerror=alert(1)>", "<!-- x -->", "[a](javascript:alert(1))", "![a](http://x/y.png)",
    "[a]: http://x", "| a | b |", "|---|", "# a", "> a", "1. a", "- a", "---", "===", "```", "~~~", "    a", "\ta",
    "&lt;b&gt;", "<http://x>", "*a* __b__ ~~c~~", "a\\", "\\|", "`a`|`b`", "\x1b[31mred\x1b[0m\x1b]0;title\x07",
    "<a\nb>", "a  \nb", "*", "**", "_", "\\*",
)  # fmt: skip
outside = st.text(st.sampled_from(SPECIAL), max_size=30) | st.text(max_size=30) | st.sampled_from(HOSTILE)


def seen(text):
    """Words as a reader sees them: runs of white space as one space, and what cannot be seen as escapes."""
    return " ".join(visible(text).split())


def read(block):
    """The types of the block's tokens, and the text of each inline token with those of its tokens that are markup."""
    tokens = READER.parse("\n".join(block_lines(block)) + "\n")
    inline = [token for token in tokens if token.type == "inline"]
    texts = [seen("".join(child.content for child in token.children)) for token in inline]
    markup = [
        [child.type for child in token.children if child.type not in ("text", "text_special")] for token in inline
    ]
    return [token.type for token in tokens], texts, markup


@given(outside)
def test_a_paragraph_is_one_paragraph_with_its_text_and_no_markup(text):
    types, texts, markup = read(Paragraph(("a", text)))
    assert types == ["paragraph_open", "inline", "paragraph_close"]
    assert texts == [seen(f"a{text}")]
    assert markup == [[]]


@given(outside, outside)
@example("    a", "")
@example("\t", "# a")
@example("&", "lt;")
@example("1", ". a")
def test_text_in_two_parts_is_as_plain_as_in_one(text, other):
    types, texts, markup = read(Paragraph((text, other, " b")))
    assert types == ["paragraph_open", "inline", "paragraph_close"]
    assert texts == [seen(f"{text}{other} b")]
    assert markup == [[]]


@given(outside, outside)
def test_a_table_has_its_cells_and_their_texts(text, other):
    types, texts, markup = read(Table((Column(text), Column("n", "right")), ((text, other), (other, "1"))))
    assert types.count("tr_open") == 3
    assert texts == [seen(text), "n", seen(text), seen(other), seen(other), "1"]
    assert not any(markup)


@given(outside)
def test_code_and_strong_text_mark_up_all_of_it_and_nothing_else(text):
    _, texts, markup = read(Paragraph(("a ", Code(text), " b")))
    assert texts == [seen(f"a {text} b")]
    assert markup == [["code_inline"] if seen(text) else []]
    types, _, markup = read(Table((Column("a"), Column("b")), ((Code(text), Strong(text)),)))
    assert types.count("td_open") == 2
    assert {kind for kinds in markup for kind in kinds} <= {"code_inline", "strong_open", "strong_close"}


@given(outside)
@example(" #")
@example(" ## ")
def test_a_heading_and_an_item_hold_their_text(text):
    for block in (Heading(f"a{text}"), Bullets((("a", text),))):
        types, texts, markup = read(block)
        assert types.count("inline") == 1
        assert texts == [seen(f"a{text}")]
        assert markup == [[]]


@given(outside)
def test_what_a_terminal_would_act_on_is_shown_by_none(text):
    assert not {letter for letter in printable(text) if letter != "\n" and letter < " "}
