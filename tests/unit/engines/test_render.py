"""Which tokens of a rendered conversation are the assistant's."""

from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.tiny_models import CHATML, byte_tokenizer

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.render import render_marked, with_marks
from capvec.errors import UsageError

pytestmark = pytest.mark.unit

TRIMMED = (
    "<bos>{% for m in messages %}[{{ 'model' if m['role'] == 'assistant' else m['role'] }}] {{ m['content'] | trim }}\n"
    "{% endfor %}{% if add_generation_prompt %}[model] {% endif %}"
)
"""Strips what is said, and has another name for the assistant, as Gemma's template."""
THINKING = (
    "{% for m in messages %}<{{ m['role'] }}>\n{% set said = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in said %}"
    "{% set thought = said.split('</think>')[0].split('<think>')[-1].strip('\n') %}"
    "{% set said = said.split('</think>')[-1].lstrip('\n') %}"
    "{% if loop.last %}<think>\n{{ thought }}\n</think>\n\n{% endif %}"
    "{% elif m['role'] == 'assistant' and loop.last %}<think>\n\n</think>\n\n{% endif %}"
    "{{ said }}\n{% endfor %}{% if add_generation_prompt %}<assistant>\n<think>\n\n</think>\n\n{% endif %}"
)
"""Keeps the thought of the last reply only, and puts an empty one where there is none, as Qwen3's template."""
SHOUTING = "{% for m in messages %}{{ m['role'] }}: {{ m['content'] | upper }}\n{% endfor %}"


def say(*contents):
    """A conversation in which the user and the assistant take turns."""
    roles = ("user", "assistant")
    return [{"role": roles[index % 2], "content": content} for index, content in enumerate(contents)]


def marked(template, messages, prompt=False):
    """The runs of text that are marked. Tokens are bytes here, so that this is what the mask says, letter by letter."""
    tokenizer = byte_tokenizer(template)
    rendered = render_marked(ChatTemplate(tokenizer), messages, prompt=prompt)
    assert list(rendered.ids) == ChatTemplate(tokenizer).ids(messages, prompt=prompt)
    assert len(rendered.ids) == len(rendered.assistant)
    pairs = zip(rendered.ids, rendered.assistant, strict=True)
    return [tokenizer.decode([token for token, _ in run]) for mine, run in groupby(pairs, key=lambda p: p[1]) if mine]


@pytest.mark.parametrize("template", [CHATML, TRIMMED, THINKING])
@pytest.mark.parametrize("prompt", [False, True])
def test_what_the_assistant_said_is_marked_and_nothing_else(template, prompt):
    assert marked(template, say("list them", "```bash\nls\n```", "a b", "done ✓"), prompt) == [
        "```bash\nls\n```",
        "done ✓",
    ]


@pytest.mark.parametrize("template", [CHATML, TRIMMED, THINKING])
def test_a_user_who_repeats_the_assistant_is_not_taken_for_it(template):
    tokenizer = byte_tokenizer(template)
    rendered = render_marked(ChatTemplate(tokenizer), say("yes", "yes", "yes", "no"), prompt=False)
    first = rendered.assistant.index(True)
    before = tokenizer.decode(rendered.ids[:first])
    assert before.count("yes") == 1
    assert tokenizer.decode(rendered.ids[first:]).startswith("yes")
    assert sum(rendered.assistant) == len("yes") + len("no")


def test_a_reply_that_reads_like_the_template_is_found_where_it_stands():
    assert marked(CHATML, say("a", "assistant", "assistant", "a")) == ["assistant", "a"]


@pytest.mark.parametrize("template", [CHATML, TRIMMED])
def test_white_space_around_a_reply_does_not_count(template):
    assert marked(template, say("hi", "\n  well  said \n", "bye", "   ")) == ["well  said"]


def test_thoughts_that_the_template_drops_are_not_there_and_those_it_moves_are_marked():
    first, last = "<think>\nold thought\n</think>\n\nls", "<think>new thought</think>pwd"
    assert marked(THINKING, say("a", first, "b", last)) == ["ls", "new thought", "pwd"]
    assert marked(CHATML, say("a", first)) == ["old thought", "ls"]


def test_a_conversation_without_a_reply_has_no_token_of_the_assistants():
    assert marked(CHATML, say("only a question"), prompt=True) == []
    assert marked(CHATML, say("a question", "")) == []


def test_a_template_that_rewrites_what_was_said_is_refused():
    with pytest.raises(UsageError, match=r"rewrites what the assistant said.*'quiet'"):
        marked(SHOUTING, say("hello", "quiet"))
    slow = byte_tokenizer(CHATML)
    slow.__class__ = type("Bytes", (slow.__class__,), {"is_fast": False})
    assert "Bytes has no character offsets" in with_marks(ChatTemplate(slow)).info.unmarked
    assert with_marks(ChatTemplate(byte_tokenizer(CHATML))).info.unmarked == ""
    with pytest.raises(UsageError, match="Bytes has no character offsets"):
        render_marked(ChatTemplate(slow), say("hello", "quiet"), prompt=False)


def test_a_token_of_white_space_without_offsets_stands_after_the_one_before_it():
    from capvec.engines.render import overlaps

    # "ab  cd": a tokenizer that trims offsets says of the two spaces only where they end.
    offsets = [(0, 2), (4, 4), (4, 6)]
    assert list(overlaps(offsets, [(0, 4)])) == [True, True, False]
    assert list(overlaps(offsets, [(4, 6)])) == [False, False, True]
    assert list(overlaps(offsets, [(1, 5)])) == [True, True, True]


TEXT = st.text(st.characters(blacklist_categories=("Cs", "Cc")) | st.just("\n"), max_size=12).filter(
    lambda text: not any(tag in text.lower() for tag in ("think", "thought", "reasoning", "<|"))
)


@given(contents=st.lists(TEXT, min_size=1, max_size=5), prompt=st.booleans())
@settings(max_examples=40, deadline=None)
def test_the_marked_text_is_the_replies_whatever_is_said(contents, prompt):
    replies = [content.strip() for content in contents[1::2]]
    assert marked(CHATML, say(*contents), prompt) == [reply for reply in replies if reply]
