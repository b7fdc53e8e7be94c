"""Replies in pieces: whatever the tokens and their arrival, the pieces are the whole."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import CHATML, byte_tokenizer

from capvec.engines.answering import ChatReader, TextReader, cut
from capvec.engines.chat_requests import parse_chat
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import Drawn
from capvec.engines.growing_text import GrowingText
from capvec.engines.prompts import Prompt
from capvec.engines.streams import held_back

pytestmark = pytest.mark.unit

PIECES = st.lists(
    st.sampled_from(
        ["<think>", "</think>", "<thi", "<", "\n", " ", "STOP", "ST", "é", "日本", "🙂", "a b", "<tool_call>", "{", '"',
         '{"name": "f", "arguments": {}}', "</tool_call>", "<|im_end|>", "word"]
    ),
    max_size=10,
)  # fmt: skip


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(byte_tokenizer(CHATML), after=("<|im_end|>\n", "<|im_end|>"))


def chat(**fields):
    return parse_chat(json.dumps({"messages": [{"role": "user", "content": "a"}]} | fields).encode(), n_layers=1)


def streamed(template, reader, tokens, sizes, text):
    """What the pieces of a reply add up to: answer and thought."""
    speaker = reader.speaker(GrowingText(template))
    answer = thought = ""
    position = 0
    for size in (*sizes, len(tokens)):
        piece = speaker.take([Drawn(token) for token in tokens[position : position + size]], keep=False)
        position += size
        answer, thought = answer + piece.text, thought + piece.thought
    rest = speaker.finish(reader.whole(text))
    return answer + rest.text, thought + rest.thought, rest.calls


TOOLS = [{"type": "function", "function": {"name": "f"}}]


@pytest.mark.parametrize("fields", [{}, {"stop": ["STOP"]}, {"tools": TOOLS}], ids=["plain", "stop", "tools"])
@settings(max_examples=200, deadline=None)
@given(pieces=PIECES, sizes=st.lists(st.integers(0, 5), max_size=60))
def test_the_pieces_of_a_chat_add_up_to_its_reply(template, fields, pieces, sizes):
    asked = chat(**fields)
    said = cut("".join(pieces), ("<|im_end|>",))
    tokens = template.tokenizer(said, add_special_tokens=False)["input_ids"]
    text = cut(said, asked.stop)
    reader = ChatReader(template, asked, Prompt((1,), None))
    whole = reader.whole(text)
    answer, thought, calls = streamed(template, reader, tokens, sizes, text)
    assert (answer, thought) == (whole.text, whole.thought)
    assert [call.name for call in calls] == [call.name for call in whole.calls]


@settings(max_examples=200, deadline=None)
@given(text=st.text(max_size=30), sizes=st.lists(st.integers(0, 5), max_size=60), stop=st.text(min_size=1, max_size=3))
def test_the_pieces_of_a_completion_add_up_to_it(template, text, sizes, stop):
    tokens = template.tokenizer(text, add_special_tokens=False)["input_ids"]
    whole = cut(text, [stop])
    assert streamed(template, TextReader([stop]), tokens, sizes, whole)[0] == whole


def test_what_may_be_the_beginning_of_a_mark_waits():
    assert held_back("so <th", ["<think>"]) == "so "
    assert held_back("so <thx", ["<think>"]) == "so <thx"
    assert held_back("so", []) == "so"


def test_words_come_before_the_reply_ends(template):
    reader = ChatReader(template, chat(), Prompt((1,), None))
    speaker = reader.speaker(GrowingText(template))
    tokens = template.tokenizer("one two", add_special_tokens=False)["input_ids"]
    assert [speaker.take([Drawn(token)], keep=False).text for token in tokens] == list("one two")
