"""Where a reply ends, token by token, and what may share keys and values."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_models import CHATML, byte_tokenizer

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.generation import ReplyRequest
from capvec.engines.vllm.replies import Ending, salt_of, shares_prefixes, spans
from capvec.steering import Steer

pytestmark = pytest.mark.unit


@cache
def template():
    """Made when it is needed: transformers is slow to import."""
    return ChatTemplate(byte_tokenizer(CHATML))


def end():
    """The token that ends a reply."""
    return template().tokenizer.eos_token_id


def ended(text, *stop, max_tokens=1000, more=()):
    """The end of a reply that says `text` and then `more`."""
    ids = template().tokenizer(text, add_special_tokens=False)["input_ids"]
    ending = Ending(template(), frozenset({end()}), ReplyRequest((1,), max_tokens, 0, 0.0, stop, (), None))
    for token in (*ids, *more):
        if ending.take(token):
            break
    return ending


def test_a_reply_ends_with_its_stop_token_which_counts_and_says_nothing():
    ending = ended("ls", more=(end(), 5))
    assert (ending.text, len(ending.tokens), ending.stopped, ending.ended) == ("ls", 3, True, True)


def test_a_reply_ends_at_its_last_token():
    ending = ended("a long reply", max_tokens=4)
    assert (ending.text, ending.stopped, ending.ended) == ("a lo", False, True)


def test_a_reply_ends_with_the_token_that_completes_a_stop_string():
    ending = ended("one ``` two", "zzz", "```")
    assert (ending.text, len(ending.tokens), ending.stopped) == ("one ", 7, True)


def test_a_stop_string_of_several_bytes_ends_the_reply_where_it_is_whole():
    ending = ended("so 完了 und", "完了")
    assert (ending.text, len(ending.tokens)) == ("so ", 9)


def test_a_reply_that_goes_on_has_not_ended():
    assert not ended("ls", "```").ended


@given(st.text("ab\n`é"), st.lists(st.text("ab`é", min_size=1, max_size=3), max_size=3))
def test_a_reply_ends_where_its_whole_text_first_holds_a_stop_string(text, stops):
    """The reference engine decodes everything after each token."""
    ids = template().tokenizer(text, add_special_tokens=False)["input_ids"]
    texts = [template().decode(ids[:end]) for end in range(1, len(ids) + 1)]
    due = next((end for end, so_far in enumerate(texts, 1) if any(stop in so_far for stop in stops)), None)
    ending = ended(text, *stops)
    assert ending.stopped == (due is not None)
    assert len(ending.tokens) == (due or len(ids))
    cuts = [at for stop in stops if due and (at := texts[due - 1].find(stop)) >= 0]
    assert ending.text == (texts[due - 1][: min(cuts)] if due else text)


def test_the_same_steers_share_their_prefixes_and_no_others_do():
    steer = Steer(1, "d", 2.0)
    assert salt_of([steer]) == salt_of([Steer(1, "d", 2.0)])
    others = [[], [Steer(1, "d", 2.5)], [Steer(1, "e", 2.0)], [Steer(2, "d", 2.0)], [Steer(1, "d", 2.0, "set")],
              [Steer(1, "d", 2.0, keep_norm=True)], [steer, steer]]  # fmt: skip
    assert len({salt_of(steers) for steers in [[steer], *others]}) == 8


@pytest.mark.parametrize("positions", ["prompt", "generated", "assistant"])
def test_what_steers_a_prompt_unlike_a_reply_shares_nothing(positions):
    """A token of a reply is a token of the next prompt, where such a steer treats it otherwise."""
    steers = [Steer(1, "d", 2.0), Steer(2, "d", 2.0, positions=positions)]
    assert not shares_prefixes(steers)
    assert salt_of(steers) != salt_of(steers)


@given(st.lists(st.booleans(), max_size=40))
def test_spans_are_where_the_marks_are(marks):
    found = spans(marks)
    assert [any(start <= at < end for start, end in found) for at in range(len(marks))] == marks
    assert all(start < end for start, end in found)
    assert all(one[1] < other[0] for one, other in pairwise(found))
