"""How a conversation opens."""

from __future__ import annotations

from pathlib import Path

import pytest

import capvec
from capvec.agent.prompts import EXAMPLES, STYLES, opening_messages
from capvec.agent.protocols import PROTOCOLS
from capvec.errors import UsageError

pytestmark = pytest.mark.unit

each_protocol = pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)


@each_protocol
def test_the_examples_are_replies_that_the_protocol_reads_as_strict(protocol):
    messages = opening_messages("Do it.", protocol, "few-shot")
    parses = [protocol.parse(message["content"]) for message in messages if message["role"] == "assistant"]
    assert {parse.status for parse in parses} == {"strict"}
    assert all(bool(parse.commands) != parse.done for parse in parses)
    # Every example ends with done, and done is said once in each.
    assert parses[-1].done
    assert sum(parse.done for parse in parses) == len(EXAMPLES)


@each_protocol
@pytest.mark.parametrize("style", STYLES)
def test_it_opens_with_the_system_prompt_takes_turns_and_ends_with_the_task(protocol, style):
    messages = opening_messages("Do it.", protocol, style)
    assert messages[-1] == {"role": "user", "content": "Do it."}
    turns = ["system"] + ["user", "assistant"] * ((len(messages) - 2) // 2) + ["user"]
    assert [message["role"] for message in messages] == turns
    assert (len(messages) == 2) == (style != "few-shot")
    assert messages[0]["content"] == (protocol.system if style == "zero-shot" else protocol.brief)


@each_protocol
@pytest.mark.parametrize("style", STYLES)
def test_the_prompt_control_changes_the_system_prompt_alone(protocol, style):
    plain = opening_messages("Do it.", protocol, style)
    messages = opening_messages("Do it.", protocol, style, "Be careful.")
    assert messages[0]["content"] == plain[0]["content"] + " Be careful."
    assert messages[1:] == plain[1:]


def test_no_example_is_a_bundled_task():
    folder = Path(capvec.__file__).parent / "tasks" / "bundled"
    instructions = {file.read_text().strip() for file in folder.glob("*/instruction.md")}
    assert len(instructions) >= 48
    examples = {m["content"] for m in opening_messages("", PROTOCOLS["bash-block"], "few-shot") if m["role"] == "user"}
    assert not instructions & examples


def test_an_unknown_style_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="few-shot, brief, zero-shot"):
        opening_messages("Do it.", PROTOCOLS["bash-block"], "one-shot")
