"""The grammars of the protocols: what they allow is read as strict, and what the protocols write is allowed."""

from __future__ import annotations

import re

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from capvec.agent.protocols import PROTOCOLS
from capvec.errors import UsageError

pytestmark = pytest.mark.unit
COMMANDS = (
    *(
        "ls -la",
        "cat <<EOF > a.txt\nsome text\n\nEOF",
        "echo \"it's\" > 'a b'\n~/run.sh",
        "for i in 1 2; do\n  ls\ndone",
    ),
    *("`which ls` /app", "printf '%s\\n' é √ 😀 > f", "test 1 -lt 2 && echo {a,b}"),
)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
@settings(max_examples=200, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_a_reply_of_the_grammar_acts_and_is_strict_unless_its_command_leaves_something_open(protocol, data):
    said = data.draw(st.from_regex(re.compile(protocol.grammar), fullmatch=True))
    parse = protocol.parse(said)
    if parse.status == "failed":
        assert re.search("The command leaves .* open, so it may be cut", parse.error)
    else:
        assert parse.status == "strict"
        assert parse.commands or parse.done


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_what_a_protocol_writes_is_in_its_grammar(protocol, command):
    try:
        said = protocol.render([command])
    except UsageError:
        return
    if said.startswith("````"):  # longer fences, for commands that could hold one
        said = re.sub("`{4,}", "```", said)
    assert re.fullmatch(protocol.grammar, said)
    assert protocol.parse(said).commands == (command,)


@pytest.mark.parametrize("protocol", PROTOCOLS.values(), ids=PROTOCOLS)
def test_the_end_of_the_work_is_in_the_grammar_and_a_reply_that_does_nothing_is_not(protocol):
    assert re.fullmatch(protocol.grammar, protocol.render([], True))
    assert re.fullmatch(protocol.grammar, "I will look at the files.") is None
    assert re.fullmatch(protocol.grammar, "") is None
