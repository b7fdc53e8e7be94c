"""Tools of a chat: what the model is told, and what becomes of its calls."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tiny_models import CHATML, byte_tokenizer

from capvec.engines.chat_template import ChatTemplate
from capvec.engines.checks import RequestError
from capvec.engines.protocol import ChatTemplateInfo
from capvec.engines.tools import Tools, calls_of, in_words, knows_tools, opening

pytestmark = pytest.mark.unit

ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "description": "Adds.",
        "parameters": {
            "type": "object",
            "properties": {"a": {"type": "integer"}, "note": {"type": "string"}, "more": {"type": "array"}},
        },
    },
}
TOOLS = Tools((ADD,))
JSON_CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'
XML_CALL = (
    "<tool_call>\n<function=add>\n<parameter=a>\n1\n</parameter>\n<parameter=note>\n1\n</parameter>\n"
    "<parameter=more>\n[1, 2]\n</parameter>\n</function>\n</tool_call>"
)


def arguments(calls):
    return [(call.name, json.loads(call.arguments)) for call in calls]


@pytest.mark.parametrize(
    ("text", "words", "expected"),
    [
        (JSON_CALL, "", [("add", {"a": 1})]),
        (f"I add.\n{JSON_CALL}\n{JSON_CALL}", "I add.\n", [("add", {"a": 1})] * 2),
        (XML_CALL, "", [("add", {"a": 1, "note": "1", "more": [1, 2]})]),
        ('{"name": "add", "parameters": {"a": 1}}', "", [("add", {"a": 1})]),
        ('[{"name": "add", "arguments": {"a": 1}}]', "", [("add", {"a": 1})]),
        ('<tool_call>{"name": "add"}</tool_call>', "", [("add", {})]),
        ("No call at all.", "No call at all.", []),
        ('<tool_call>{"name": "add", "argum', '<tool_call>{"name": "add", "argum', []),
        ('<tool_call>{"name": "add", "arguments": [1]}</tool_call>', None, []),
    ],
)
def test_calls_are_told_from_words_and_one_that_cannot_be_read_stays_words(text, words, expected):
    said, calls = calls_of(text, TOOLS)
    assert (said, arguments(calls)) == (text if words is None else words, expected)
    assert len({call.id for call in calls}) == len(calls)


def test_without_tools_a_reply_is_words_and_without_parallel_calls_it_has_one():
    assert calls_of(JSON_CALL, Tools()) == (JSON_CALL, ())
    assert len(calls_of(f"{JSON_CALL}\n{JSON_CALL}", Tools((ADD,), parallel=False))[1]) == 1


CUT = st.tuples(st.sampled_from([JSON_CALL, XML_CALL]), st.integers(0, 200)).map(lambda pair: pair[0][: pair[1]])


@given(st.text(max_size=60) | CUT)
def test_no_word_of_a_reply_is_lost_unless_it_is_a_call(text):
    words, calls = calls_of(text, TOOLS)
    assert calls or words == text


def test_a_template_without_tools_tells_of_them_and_of_calls_in_words():
    template = ChatTemplate(byte_tokenizer(CHATML))
    assert not knows_tools(template)
    call = {"type": "function", "function": {"name": "add", "arguments": {"a": 1}}}
    talk = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": "Add."},
        {"role": "assistant", "content": "", "tool_calls": [call, call]},
        {"role": "tool", "content": "2", "tool_call_id": "x"},
        {"role": "tool", "content": "3", "tool_call_id": "y"},
    ]
    system, user, reply, results = in_words(talk, TOOLS)
    assert system["content"].startswith("Be brief.\n\n# Tools")
    assert json.dumps(ADD) in system["content"]
    assert user == talk[1]
    assert reply == {"role": "assistant", "content": f"{JSON_CALL}\n{JSON_CALL}"}
    assert results["role"] == "user"
    assert results["content"].count("<tool_response>") == 2
    assert in_words(talk[1:2], TOOLS)[0]["role"] == "system"
    assert in_words(talk[1:2], Tools()) == tuple(talk[1:2])


def test_a_call_that_must_come_begins_as_the_model_writes_it():
    template = ChatTemplate(byte_tokenizer(CHATML))
    assert opening(template, TOOLS, known=False) == ""
    assert opening(template, Tools((ADD,), "required"), known=False) == '<tool_call>\n{"name": "'
    assert opening(template, Tools((ADD,), "required", "add"), known=False) == '<tool_call>\n{"name": "add"'


KNOWING = (
    "{% if tools %}<|im_start|>system\n{% for tool in tools %}{{ tool | tojson }}\n{% endfor %}<tool_call>…"
    "</tool_call><|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}"
    "{% for call in m.tool_calls or [] %}CALL{% endfor %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{{ '<think>\n\n</think>\n\n' if enable_thinking is false }}"
    "{% endif %}"
)
"""A template that knows tools, but for how it writes a call."""
AS_JSON = (
    '<tool_call>\n{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}\n'
    "</tool_call>"
)
AS_XML = (
    "<tool_call>\n<function={{ call.function.name }}>\n{% for key, value in call.function.arguments | items %}"
    "<parameter={{ key }}>\n{{ value }}\n</parameter>\n{% endfor %}</function>\n</tool_call>"
)


@pytest.mark.parametrize(
    ("written", "begun"),
    [(AS_JSON, '<tool_call>\n{"name": "add"'), (AS_XML, "<tool_call>\n<function=add>")],
    ids=["json", "xml"],
)
@pytest.mark.parametrize("switch", ["", "enable_thinking"])
def test_a_template_that_knows_tools_shows_how_its_calls_begin(written, begun, switch):
    info = ChatTemplateInfo(switch=switch)
    template = ChatTemplate(byte_tokenizer(KNOWING.replace("CALL", written)), info=info)
    assert knows_tools(template)
    assert opening(template, Tools((ADD,), "required", "add"), known=True) == begun
    assert begun.startswith(opening(template, Tools((ADD,), "required"), known=True))


def test_a_template_that_does_not_show_it_refuses_a_call_that_must_come():
    template = ChatTemplate(byte_tokenizer(CHATML))
    with pytest.raises(RequestError, match="does not show how a reply begins with a call"):
        opening(template, Tools((ADD,), "required"), known=True)
