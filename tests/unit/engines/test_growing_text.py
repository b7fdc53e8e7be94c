"""The text of tokens that come one by one is that of all of them, but for a character that is not whole."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_models import CHATML, byte_tokenizer

from capvec.engines.answers import Spoken, TextForm
from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import Drawn
from capvec.engines.growing_text import GrowingText

pytestmark = pytest.mark.unit


@pytest.fixture(scope="module")
def template():
    return ChatTemplate(byte_tokenizer(CHATML))


def tokens_of(template, text):
    return template.tokenizer(text, add_special_tokens=False)["input_ids"]


@given(text=st.text(max_size=30), size=st.integers(1, 5))
def test_the_text_of_all_tokens_is_the_text(template, text, size):
    growing, tokens = GrowingText(template), tokens_of(template, text)
    for start in range(0, len(tokens), size):
        growing.take(tokens[start : start + size])
        assert text.startswith(growing.text)
    assert growing.text == text or text.endswith("\ufffd")  # which looks like the beginning of a character


@given(parts=st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\ufffd"), max_size=8), max_size=4))
def test_a_token_of_a_completion_is_where_its_character_begins_whatever_the_pieces(template, parts):
    form, told = TextForm(template, logprobs=True), []
    for part in parts:
        drawn = tuple(Drawn(token, -1.0) for token in tokens_of(template, part))
        told += form.choice(0, Spoken(part, drawn=drawn), None)["logprobs"]["text_offset"]
    # Tokens are bytes here.
    assert told == [at for at, letter in enumerate("".join(parts)) for _ in letter.encode()]


def test_what_the_text_lacks_of_its_tokens_is_not_counted(template):
    tokens = [template.tokenizer.eos_token_id, *tokens_of(template, "ab")]
    spoken = Spoken("ab", drawn=(Drawn(tokens[0]), *(Drawn(one, -1.0) for one in tokens[1:])), unsaid=len("<|im_end|>"))
    told = TextForm(template, logprobs=True).choice(0, spoken, None)["logprobs"]
    assert (told["text_offset"], told["token_logprobs"]) == ([0, 0, 1], [None, -1.0, -1.0])
