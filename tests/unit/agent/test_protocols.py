"""Parsers are pure, total, and draw the lines between strict, repaired, failed and no_cmd where they say."""

from __future__ import annotations

import json
import string

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from capvec.agent.protocols import PROTOCOLS, get_protocol
from capvec.errors import UsageError
from capvec.records import Parse

pytestmark = pytest.mark.unit

each_protocol = pytest.mark.parametrize("name", list(PROTOCOLS))
MARKER = "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT"

# Bits of the three formats, so that random texts come near the interesting ones.
pieces = st.sampled_from(
    ["```", "```bash\n", "\n```\n", "ls", "DONE", "<think>", "</think>", "<tool_call>", "</tool_call>", "{", "}", "[",
     '"', "\\", "<function=bash>", "<parameter=command>", "</parameter>", '{"name": "bash", "arguments": ',
     '{"command": "ls"}', '"commands": [', '{"keystrokes": "ls\\n"}', ",", '"task_complete": true', "9" * 5000,
     "NaN", "\ud800", "\x00", "\r\n", " ", "~~~", "<|im_end|>", "\\ud83d", '{"name": "bash", "arguments": {}}']
)  # fmt: skip
replies = st.lists(pieces | st.text(max_size=8), max_size=12).map("".join)


@each_protocol
@settings(max_examples=100, deadline=5000)  # a hostile reply of 100,000 characters takes under half a second
@given(text=replies)
@example(text="[" * 100_000)
@example(text="```" + "x" * 100_000)
@example(text='{"commands":' * 20_000)
@example(text="<tool_call>" + '{"a":' * 20_000)
@example(text="```bash\n" + "((" * 10_000 + "\n```")
@example(text="```bash\n" + "$[${`" * 5_000 + "\n```")
@example(text="```bash\n" + "cat <<EOF\n```\nEOF\n" * 2_000)
@example(text="```bash\n" + "case x in " * 2_000 + "\n```")
@example(text="<function=bash><parameter=command>" + "</parameter> " * 8_000)
@example(text="```bash\n```\n</think>\n" * 2_000)
@example(text="<|" + "x" * 38 + "|>" + "</s>" * 20_000 + ".")
@example(text='{"name": "bash", "arguments": {"command": "ls\n"}},' * 2_000)
def test_any_text_gives_a_parse_and_always_the_same(name, text):
    protocol = get_protocol(name)
    parse = protocol.parse(text)
    assert parse == protocol.parse(text)
    assert all(command.strip() and "\0" not in command for command in parse.commands)
    for said in (*parse.commands, parse.error):
        said.encode()
    if parse.status == "failed":
        assert parse.error
        assert not parse.commands
        assert not parse.done
    assert bool(parse.error) == (parse.status != "strict")


# One-line commands without what the formats themselves are made of.
plain = st.text(string.ascii_letters + string.digits + " -./'\"$|>{}[]\\&;=*", min_size=1, max_size=30)
commands = plain.map(str.strip).filter(bool).filter(lambda command: command != "DONE")


@given(command=commands)
def test_a_rendered_bash_block_is_read_back_strictly(command):
    protocol = get_protocol("bash-block")
    assert protocol.parse(protocol.render([command], False)) == Parse("strict", (command,))


@pytest.mark.parametrize("name", ["terminus-json", "tool-call"])
@given(many=st.lists(commands, max_size=3), done=st.booleans())
def test_rendered_commands_are_read_back_strictly_and_in_order(name, many, done):
    protocol = get_protocol(name)
    parse = protocol.parse(protocol.render(many, done))
    assert (parse.status, parse.commands, parse.done) == ("strict", tuple(many), done)


@each_protocol
def test_done_is_rendered_and_read(name):
    protocol = get_protocol(name)
    assert protocol.parse(protocol.render([], True)) == Parse("strict", done=True)


@each_protocol
@given(thought=st.text(string.ascii_letters + " `\n{}", max_size=30))
def test_a_thought_changes_nothing(name, thought):
    protocol = get_protocol(name)
    said = protocol.render(["ls -l"], False)
    for opened in (f"<think>{thought}</think>\n{said}", f"{thought}\n</think>\n\n{said}"):
        assert protocol.parse(opened) == protocol.parse(said)


def kind(parse):
    """One word for what a reply was taken for; commands and done follow."""
    return ("no_cmd" if parse.no_cmd else parse.status, parse.commands, parse.done)


@pytest.mark.parametrize(
    ("text", "status", "commands", "done"),
    [
        ("I look.\n```bash\nls\n```\nThen more.", "strict", ("ls",), False),
        ("```bash\ncd /app\nls\n```", "strict", ("cd /app\nls",), False),
        ("```sh\nls\n```", "repaired", ("ls",), False),
        ("```\nls\n```", "repaired", ("ls",), False),
        ("```bash\nls", "failed", (), False),
        ("```bash\nls```", "failed", (), False),
        ("```bash ls```", "repaired", ("ls",), False),
        ("```bash\r\nls\r\n```\r\n", "strict", ("ls",), False),
        ("```bash\nls\r\npwd\n```", "failed", (), False),
        ("```bash\ncat > f <<EOF\na\r\nEOF\n```", "strict", ("cat > f <<EOF\na\r\nEOF",), False),
        ("```bash\ncat > f <<EOF\na\n```", "failed", (), False),
        ("```bash\ncat > f <<EOF\na\n```\nEOF", "failed", (), False),
        ("```bash\ncat > f <<EOF\na\n```\nOnce more:\n```bash\ncat > f <<EOF\na\nEOF\n```", "failed", (), False),
        ("```bash\ncat > f <<EOF\na\nEOF\n```\nb\n```\nEOF\n```", "failed", (), False),
        ("```bash\nls\n```\n```sh\npwd\n```", "failed", (), False),
        ("```bash\nls\n```\n```\na.txt", "repaired", ("ls",), False),
        (f"```bash\nls\necho {MARKER}\n```", "repaired", ("ls",), True),
        (f"```bash\nmake &&\necho {MARKER}\n```", "failed", (), False),
        (f"```bash\necho {MARKER}\nrm f\n```", "failed", (), False),
        ("```bash\na\n```\n```bash\nb\n```", "failed", (), False),
        ("```python\nx\n```", "failed", (), False),
        ("I am thinking.", "no_cmd", (), False),
        ("", "no_cmd", (), False),
        ("```bash\n```", "no_cmd", (), False),
        ("DONE", "strict", (), True),
        (MARKER, "strict", (), True),
        (f"```bash\necho {MARKER}\n```", "strict", (), True),
        ("I will be DONE soon.", "no_cmd", (), False),
        ("DONE<|im_end|>", "repaired", (), True),
        ("```mswea_bash_command\nls\n```", "strict", ("ls",), False),
        ("```mswea_bash_command\nls\n```\n```bash\npwd\n```", "failed", (), False),
        ("~~~bash\nls\n~~~", "strict", ("ls",), False),
        ("~~~bash\nls\n```\n", "failed", (), False),
        ("```bash\nls\n~~~\n```", "strict", ("ls\n~~~",), False),
        ("```bash\nls\n```<|im_end|>", "repaired", ("ls",), False),
        ("```bash\nls\n```\n<|im_end|>\n", "repaired", ("ls",), False),
        ("```bash\nls\n```.", "repaired", ("ls",), False),
        ("```bash\nls\n```.\nThen more.", "failed", (), False),
        ("```bash\ncat <<EOF\n```.\n", "failed", (), False),
        ("```bash\ncat > f <<EOF\n```.\nEOF\n```", "strict", ("cat > f <<EOF\n```.\nEOF",), False),
    ],
)
def test_what_a_bash_block_reply_is_taken_for(text, status, commands, done):
    assert kind(get_protocol("bash-block").parse(text)) == (status, commands, done)


def terminus(commands, **more):
    return json.dumps({"analysis": "a", "plan": "p", "commands": commands, "task_complete": False} | more)


LS = {"keystrokes": "ls\n", "duration": 0.1}


@pytest.mark.parametrize(
    ("text", "status", "commands", "done"),
    [
        (terminus([LS]), "strict", ("ls",), False),
        (terminus([{"keystrokes": "ls"}]), "strict", ("ls",), False),
        (terminus([LS], task_complete=True), "strict", ("ls",), True),
        (terminus([], task_complete=True), "strict", (), True),
        (terminus([]), "no_cmd", (), False),
        (terminus([{"keystrokes": "", "duration": 9}]), "no_cmd", (), False),
        (f"Here:\n```json\n{terminus([LS])}\n```", "repaired", ("ls",), False),
        (terminus([LS]).replace("}]", "},]"), "repaired", ("ls",), False),
        (terminus("ls"), "failed", (), False),
        (terminus([{"keys": "ls"}]), "failed", (), False),
        ('{"analysis": "a"}', "failed", (), False),
        ('{"commands": [{"keystrokes": "rm -rf /app/ca', "failed", (), False),
        (terminus([LS])[:-1], "repaired", ("ls",), False),
        (terminus([LS, LS])[:80], "failed", (), False),
        ('{"task_complete": true', "failed", (), False),
        (terminus([LS]) + terminus([LS]), "failed", (), False),
        ('{"commands": [{"keystrokes": "a"}], "commands": [{"keystrokes": "b"}]}', "failed", (), False),
        ('{"commands": [{"keystrokes": "echo "}]}" > f"}]}', "failed", (), False),
        (terminus([{"keystrokes": "ls\r\n"}]), "strict", ("ls",), False),
        (terminus([{"keystrokes": "ls\r"}]), "strict", ("ls",), False),
        (terminus([{"keystrokes": "ls\r\npwd\n"}]), "failed", (), False),
    ],
)
def test_what_a_terminus_reply_is_taken_for(text, status, commands, done):
    assert kind(get_protocol("terminus-json").parse(text)) == (status, commands, done)


def call(name, **arguments):
    return f"<tool_call>\n{json.dumps({'name': name, 'arguments': arguments})}\n</tool_call>"


BARE = json.dumps({"name": "bash", "arguments": {"command": "ls"}})
SHORT = "<tool_call><function=bash><parameter=command>ls</parameter></function></tool_call>"
XML = "<tool_call>\n<function=bash>\n<parameter=command>\nls\n</parameter>\n</function>\n</tool_call>"


@pytest.mark.parametrize(
    ("text", "status", "commands", "done"),
    [
        (call("bash", command="ls"), "strict", ("ls",), False),
        (XML, "strict", ("ls",), False),
        ("I look.\n" + call("bash", command="a") + "\n" + call("bash", command="b"), "strict", ("a", "b"), False),
        (call("finish"), "strict", (), True),
        (call("submit"), "strict", (), True),
        (call("bash", command="a") + call("finish"), "strict", ("a",), True),
        (call("bash", command="ls").removesuffix("\n</tool_call>"), "repaired", ("ls",), False),
        (call("browser", url="x"), "failed", (), False),
        (call("bash", cmd="ls"), "failed", (), False),
        (call("bash", command="a") + call("browser"), "failed", (), False),
        ("<tool_call>ls</tool_call>", "failed", (), False),
        (call("finish") + call("bash", command="ls"), "failed", (), False),
        (call("bash", command="ls").replace("}}", "}"), "repaired", ("ls",), False),
        (call("bash", command="ls").replace("}}", "}}}"), "repaired", ("ls",), False),
        (call("bash", command="ls").replace("}}", ""), "failed", (), False),
        (XML.replace("\n", "\r\n"), "strict", ("ls",), False),
        (XML.replace("ls\n</parameter>", "ls"), "failed", (), False),
        (XML.replace("ls", "ls\n</parameter>\n<parameter=command>\npwd"), "failed", (), False),
        (XML.replace("ls", "cat <<EOF"), "failed", (), False),
        (XML.replace("ls", "# " + XML.replace("\n", "")), "failed", (), False),
        ('{"name": "bash", "arguments": {"command": "ls"}', "failed", (), False),
        (f"{BARE}\n{BARE}", "repaired", ("ls", "ls"), False),
        (f"```json\n[{BARE},\n{BARE}]\n```", "repaired", ("ls", "ls"), False),
        (f"[{BARE}, {BARE}", "failed", (), False),
        (f"{BARE}\n{BARE[:-1]}", "failed", (), False),
        (f"I would call {BARE}", "no_cmd", (), False),
        (SHORT.replace("ls", "ls # all"), "strict", ("ls # all",), False),
        (SHORT.replace("ls", "ls # all") + "\nrm x", "failed", (), False),
        (SHORT.replace("ls", "ls # all") * 2, "strict", ("ls # all",) * 2, False),
        (SHORT.replace("ls", "echo $#") + "\nThen I wait.", "repaired", ("echo $#",), False),
        (XML.replace("ls", "ls # all") + "\nThen I wait.", "repaired", ("ls # all",), False),
        ("I am thinking.", "no_cmd", (), False),
        (call("bash", command=""), "no_cmd", (), False),
    ],
)
def test_what_a_tool_call_reply_is_taken_for(text, status, commands, done):
    assert kind(get_protocol("tool-call").parse(text)) == (status, commands, done)


@each_protocol
@given(before=plain, after=plain, sign=st.sampled_from("\0\ud800\udbff\udc00\udfff"), ascii=st.booleans())
def test_a_command_that_no_shell_can_be_given_fails_and_its_sentence_can_be_sent(name, before, after, sign, ascii):
    command = f"echo {before}{sign}{after}"
    text = json.dumps(command, ensure_ascii=ascii)
    reply = {
        "bash-block": f"```bash\n{command}\n```",
        "tool-call": f'<tool_call>{{"name": "bash", "arguments": {{"command": {text}}}}}</tool_call>',
        "terminus-json": f'{{"analysis": "", "plan": "", "commands": [{{"keystrokes": {text}}}]}}',
    }[name]
    parse = get_protocol(name).parse(reply)
    assert (parse.status, parse.commands) == ("failed", ())
    get_protocol(name).observation([], parse).encode()


def test_a_surrogate_pair_of_json_is_a_character():
    reply = call("bash", command="echo 🙂")
    assert "\\ud83d\\ude42" in reply
    assert get_protocol("tool-call").parse(reply) == Parse("strict", ("echo 🙂",))


def test_a_block_that_may_be_cut_is_told_how_long_a_fence_it_needs():
    protocol, command = get_protocol("bash-block"), "echo '\n```\n'"
    for cut in (f"```bash\n{command}\n```", "```bash\necho '\n```"):
        assert "8 backticks (````````)" in protocol.parse(cut).error
    assert protocol.parse(f"````````bash\n{command}\n````````") == Parse("strict", (command,))


def test_an_unknown_protocol_is_refused_with_those_there_are():
    with pytest.raises(UsageError, match="bash-block, terminus-json, tool-call"):
        get_protocol("xml")
