"""What a reply runs is the whole command that was embedded in it, or nothing: real commands in replies as models write
them, complete and cut after any character."""

from __future__ import annotations

import json

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from capvec.agent.protocols import get_protocol
from capvec.records import Reply

pytestmark = pytest.mark.unit

IN_COMMENTS = (
    "ls # </parameter></function></tool_call>\nrm x",
    "# </parameter></function>\nls",
    "ls \\\n# </parameter></function></tool_call>\n\nrm x",
)
"""Commands in whose comments the tags of a call stand; a beginning of such a reply cannot be told from a whole one."""
PLAIN = (
    "ls -la /app",
    "cd /app && make test 2>&1 | tail -n 5",
    "grep -n 'it' f.txt | awk -F',' '{print $1}' > out.csv",
    'for f in *.txt; do mv "$f" "${f%.txt}.md"; done',
    "echo \"it's $(date +%s)\" >> log",
    "x=$((1 << 2)); (( x <<= 1 )); echo $x",
    "case $x in a|b) echo 'one';; *) echo two;; esac",
    "tr a-z A-Z <<< \"$x\"",
    "find . -name '*.py' -exec sed -i 's/a/b/' {} \\;",
    "echo `date`",
    "printf '%s\\n' é ∑ 🙂 # don't",
    "jq '.a[0]' <<< '{\"a\": [1]}'",
    "echo $'it\\'s' | sort -u",
    "echo " + "x" * 2000,
    "DONE",
)  # fmt: skip

LINES = (
    "", "text", "it's", 'say "hi"', "```", "```python", "```bash", "````", "ends in ```", "~~~", "```.",
    "~~~<|im_end|>", "ls", "DONE", "\ttab", "a\r",
    "echo COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT", "</parameter>", "</function>", "</tool_call>", "<tool_call>",
    "<function=bash>", "<parameter=command>", "</parameter>\n</function>\n</tool_call>", "<think>", "</think>",
    '{"name": "bash", "arguments": {"command": "ls"}}', '{"commands": [{"keystrokes": "ls"}]}', '"}]}', '"}}',
    "cat <<END", "é ∑ 🙂", "$(date)", "\\n",
)  # fmt: skip

bodies = st.lists(st.sampled_from(LINES), min_size=1, max_size=6).map("\n".join)


@st.composite
def heredocs(draw):
    operator, marker = draw(st.sampled_from(("<<", "<<-", "<< "))), draw(st.sampled_from(("EOF", "_END_", "É")))
    word = draw(st.sampled_from(("{}", "'{}'", '"{}"', "\\{}"))).format(marker)
    head = draw(st.sampled_from(("cat > f.md {}", "python3 - {} && ls", "x=$(cat {}", 'y="$(cat {}')))
    close = {"x": "\n)", "y": '\n)"'}.get(head[0], "")
    return f"{head.format(operator + word)}\n{draw(bodies)}\n{marker}{close}"


def in_double_quotes(body):
    for sign in '\\"`$':
        body = body.replace(sign, "\\" + sign)
    return f'echo "{body}" > f'


quotations = bodies.map(lambda body: "echo '" + body.replace("'", "'\\''") + "' > f") | bodies.map(in_double_quotes)
comments = st.sampled_from([line for line in LINES if "\n" not in line and "\r" not in line]).map("# {}\nls".format)
commands = st.lists(st.sampled_from(PLAIN) | heredocs() | quotations | comments, min_size=1, max_size=3).map("\n".join)


def sloppy(command):
    """A JSON string with bare line breaks, as models write long commands."""
    return '"' + command.replace("\\", "\\\\").replace('"', '\\"').replace("\t", "\\t") + '"'


def bare_quotes(command):
    """A JSON string whose quotes are not escaped."""
    return '"' + command.replace("\\", "\\\\").replace("\n", "\\n").replace("\r", "\\r") + '"'


def tool_call(string):
    return f'<tool_call>\n{{"name": "bash", "arguments": {{"command": {string}}}}}\n</tool_call>'


def terminus(string):
    return f'{{"analysis": "a", "plan": "p", "commands": [{{"keystrokes": {string}}}], "task_complete": false}}'


def xml(command):
    return f"<tool_call>\n<function=bash>\n<parameter=command>\n{command}\n</parameter>\n</function>\n</tool_call>"


WRITERS = {
    "bash-block": (
        lambda command: f"```bash\n{command}\n```",
        lambda command: f"````bash\n{command}\n````",
        lambda command: f"```sh\n{command}\n```",
        lambda command: f"~~~bash\n{command}\n~~~",
        lambda command: f"```mswea_bash_command\n{command}\n```<|im_end|>\n",
        lambda command: f"```\n{command}\n```",
        lambda command: f"I look first.\n\n```bash\n{command}\n```\n\nIt's what I need.",
        lambda command: f"```bash\n{command}\n```\nOutput:\n```\nf.md\n```",
    ),
    "tool-call": (
        xml,
        lambda command: xml(command).removeprefix("<tool_call>\n"),
        lambda command: xml(command).removesuffix("\n</tool_call>"),
        lambda command: (
            f"<tool_call><function=bash><parameter=command>{command}</parameter></function></tool_call>"
        ),
        lambda command: tool_call(json.dumps(command)),
        lambda command: tool_call(json.dumps(command)).replace("}}\n<", "}\n<"),
        lambda command: tool_call(sloppy(command)),
        lambda command: tool_call(bare_quotes(command)),
        lambda command: f"I call bash.\n{tool_call(json.dumps(command, ensure_ascii=False))}\nThen I wait.",
        lambda command: json.dumps([{"name": "bash", "arguments": {"command": command}}]),
    ),
    "terminus-json": (
        lambda command: terminus(json.dumps(command + "\n")),
        lambda command: terminus(json.dumps(command))[:-1],
        lambda command: terminus(sloppy(command)),
        lambda command: terminus(bare_quotes(command)),
        lambda command: f"Here:\n```json\n{terminus(json.dumps(command + chr(10), ensure_ascii=False))}\n```",
    ),
}  # fmt: skip
NAMED = [
    pytest.param(name, writer, id=f"{name}-{number}")
    for name, writers in WRITERS.items()
    for number, writer in enumerate(writers)
]
BROKEN = (WRITERS["tool-call"][7], WRITERS["terminus-json"][3])
"""Strings with bare quotes: no valid replies, but some of their beginnings are."""
THOUGHTS = ("", "<think>I run\n```bash\nls\n```\n<tool_call>\n</think>\n\n", "So ```bash\nls\n```\n</think>\n\n")

each_writer = pytest.mark.parametrize(("name", "writer"), NAMED)
texts = given(command=commands, thought=st.sampled_from(THOUGHTS))


def runs_nothing_less(parse, command):
    return parse.commands == (command,) if parse.commands else not parse.done


@each_writer
@settings(max_examples=25, deadline=None)
@texts
@example(command="cat > R.md <<'EOF'\n# T\n```python\nprint(1)\n```\nEOF", thought="")
@example(command="echo '</parameter>' > a.xml", thought="")
@example(command="cat > d <<'EOF'\n</parameter>\n</function>\n</tool_call>\n<tool_call>\n<function=bash>\n"
         "<parameter=command>\nEOF", thought="")  # fmt: skip
@example(command="cat > d <<'EOF'\ncat <<END\n</think>\n```bash\nls\n```\nEOF", thought="")
@example(command="cat > f.md <<EOF\n````\nEOF", thought=THOUGHTS[2])
@example(command="echo '\n````\n```bash\nit'\\''s' > f", thought="")
@example(command="echo '\n````\n```bash\n```\n' > f", thought="")
@example(command="echo '\n</think>\n```\nit'\\''s' > f", thought="")
def test_a_reply_runs_the_whole_command_or_nothing(name, writer, command, thought):
    parse = get_protocol(name).parse(thought + writer(command))
    assert runs_nothing_less(parse, command)
    if parse.status != "failed" and not thought:
        assert parse.commands == (command,)


@pytest.mark.parametrize(("name", "writer"), [row for row in NAMED if row.values[1] not in BROKEN])
@settings(max_examples=8, deadline=None)
@texts
@example(command="cat > f <<EOF\n</think>\nDONE\nEOF", thought="")
@example(command="cat > f <<EOF\n```\n</think>\n```bash\nls\n```\nEOF", thought="")
@example(command="cat > f <<EOF\n</tool_call>\n</think>\n" + xml("ls") + "\nEOF", thought="")
@example(command="echo '\n</think>\n' > f", thought="")
@example(command="echo '\n````\n```' > f", thought="")
@example(command='cat > f <<EOF\n"}]}\n"}}\nEOF', thought="")
def test_a_reply_that_is_cut_runs_the_whole_command_or_nothing(name, writer, command, thought):
    # A thought without its beginning cannot be told from a reply until its end is there.
    assume("<think>" in thought or not thought)
    text = thought + writer(command)
    assume(len(text) < 1500)
    protocol = get_protocol(name)
    for end in range(len(text)):
        assert runs_nothing_less(protocol.parse(text[:end]), command), text[:end]


def read_cut(protocol, text):
    return protocol.read(Reply(text, "length", prompt_tokens=1, completion_tokens=1, model_s=0.0))


@pytest.mark.parametrize("command", [*IN_COMMENTS, "DONE", "cat > f <<EOF\n```\nEOF", "echo '```.\n```'"])
@pytest.mark.parametrize(("name", "writer"), [row for row in NAMED if row.values[1] not in BROKEN])
def test_a_reply_that_the_token_limit_cut_runs_the_whole_command_or_nothing(name, writer, command):
    text, protocol = writer(command), get_protocol(name)
    for end in range(len(text)):
        assert runs_nothing_less(parse := read_cut(protocol, text[:end]), command), text[:end]
        assert parse == protocol.parse(text[:end]) or parse.status == "failed"


@pytest.mark.parametrize("name", list(WRITERS))
def test_a_reply_that_the_token_limit_cut_runs_a_command_that_other_text_follows(name):
    protocol, text = get_protocol(name), WRITERS[name][0]("ls -l")
    assert "token limit" in read_cut(protocol, text).error or name == "terminus-json"  # a key follows its commands
    for rest in ("\nThen I wa", ""):
        whole = Reply(text + rest, "stop", prompt_tokens=1, completion_tokens=1, model_s=0.0)
        assert protocol.read(whole) == protocol.parse(text + rest)
    assert read_cut(protocol, text + "\nThen I wa") == protocol.parse(text + "\nThen I wa")
    assert read_cut(protocol, text + "\nThen I wa").commands == ("ls -l",)


@pytest.mark.parametrize("name", list(WRITERS))
def test_what_may_be_the_beginning_of_a_word_does_not_end_the_work(name):
    protocol = get_protocol(name)
    said = (
        protocol.render([], True).replace(" true}", " true") if name == "terminus-json" else protocol.render([], True)
    )
    assert not read_cut(protocol, said).done


@each_writer
@settings(max_examples=15, deadline=None)
@given(command=commands.filter(lambda command: "\r" not in command))
@example(command="echo '\"}]}\n</think>\n' > f")
@example(command="echo '\"}}\n</think>\n' > f")
def test_windows_line_ends_around_a_command_are_not_part_of_it(name, writer, command):
    protocol, text = get_protocol(name), writer(command)
    framed, plain = protocol.parse(text.replace("\n", "\r\n")), protocol.parse(text)
    allowed = [plain.commands]
    if sum(said.count("\n") for said in plain.commands) == text.count("\n"):  # none stands around the command
        allowed.append(tuple(said.replace("\n", "\r\n") for said in plain.commands))
    assert framed.status == plain.status
    assert framed.commands in allowed


@pytest.mark.parametrize("command", ["printf 'a\r\nb'", 'echo "\r\n\r\n"'])
def test_windows_line_ends_that_stand_in_a_command_alone_are_its_content(command):
    call = f"<tool_call><function=bash><parameter=command>{command}</parameter></function></tool_call>"
    keys = f'{{"analysis": "", "plan": "", "commands": [{{"keystrokes": {json.dumps(command)}}}]}}'
    assert get_protocol("tool-call").parse(call).commands in ((command,), ())
    assert get_protocol("terminus-json").parse(keys).commands in ((command,), ())
    bare = keys.replace("\\r\\n", "\r\n")
    assert get_protocol("terminus-json").parse(bare).commands in ((command,), ())


@pytest.mark.parametrize("command", PLAIN, ids=range(len(PLAIN)))
@pytest.mark.parametrize("name", list(WRITERS))
def test_an_ordinary_command_is_read_strictly(name, command):
    assert get_protocol(name).parse(WRITERS[name][0](command)).status == "strict"
