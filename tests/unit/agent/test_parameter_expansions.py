"""A quotation in `${…}` hides no fence: what a reply runs is the whole command as bash reads it, or nothing."""

from __future__ import annotations

import subprocess

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from capvec.agent.protocols import get_protocol

pytestmark = pytest.mark.unit

PARAMETERS = ("x", "x_1", "1", "10", "@", "*", "!x", "#x", "#", "?", "-", "!", "$", "x[0]", "x[@]", "x[$i]", "x[-1]")
OPERATORS = (
    ":-", "-", ":=", "=", ":?", "?", ":+", "+", "#", "##", "%", "%%", "/", "//", "/#", "/%", "^", "^^", ",", ",,",
    "~", "~~", ":", "::", "@", "@Q", "[", " ", "",
)  # fmt: skip
SIGNS = ("'", '"', "$'", '$"', "\\'", '\\"', "\\}", "$", "$$", "`", "a", "/", " ", "#", "%", "{", "(", ")", "\n")
QUOTED = ("'\"'", '"\'"', "$'\"'", "'}'", '"}"', "'a'", '"a"', "'\\''", "$'\\''", "$$'a'", '$(echo "\'")', "`echo a`")
HEREDOC = """cat > f.md <<'EOF'
{"a": 1} 5" wide, it's %s
%s
code
%s
EOF"""


@st.composite
def expansions(draw, depth=2):
    pieces = st.sampled_from(SIGNS) | st.sampled_from(QUOTED)
    if depth:
        inner = expansions(depth - 1)
        pieces = pieces | inner | inner.map('"{}"'.format) | inner.map("$(echo {})".format)
    word = "".join(draw(st.lists(pieces, max_size=3)))
    return f"${{{draw(st.sampled_from(PARAMETERS))}{draw(st.sampled_from(OPERATORS))}{word}}}"


heads = st.sampled_from(("echo {}", 'echo "{}"', 'y="a{}b"', 'f "$(echo "{}")"', "cat <<< {}", "y=({})", "[[ {} ]]"))
lines = st.builds(str.format, heads, expansions())
cases = {
    "line": lines,
    "ending": st.sampled_from(("", "}", "'", '"', "}'", '`"')),
    "fence": st.sampled_from(("```", "~~~")),
}


def bash_says(command):
    bash = subprocess.run(["bash", "-n"], input=command.encode(), capture_output=True, timeout=20, check=False)
    return bash.stderr.decode(errors="replace")


def has_heredoc(command):
    """Whether bash finds no fault in the command, and misses the end of its heredoc without the last line."""
    return not bash_says(command) and "wanted `EOF'" in bash_says(command.removesuffix("EOF"))


@settings(max_examples=80, deadline=None)
@given(**cases)
@example(line='echo "${x//\'"\'/}"', ending="", fence="```")
@example(line='echo "${x%\'"\'}"', ending="", fence="```")
@example(line='echo "${x//$\'"\'/}"', ending="", fence="```")
@example(line='echo "${x:-\'}"', ending="", fence="```")
@example(line="echo $$'\\'", ending="", fence="```")
def test_a_command_after_an_expansion_with_quotes_is_run_whole_or_not_at_all(line, ending, fence):
    command = f"{line}\n{HEREDOC % (ending, fence, fence)}"
    assume(has_heredoc(command))
    parse = get_protocol("bash-block").parse(f"{fence}bash\n{command}\n{fence}")
    assert parse.commands == (command,) or parse.status == "failed"


@pytest.mark.parametrize("operator", [":-", "-", ":=", "=", ":?", "?", ":+", "+"])
def test_quotes_after_an_operator_with_a_default_are_read_if_they_hide_nothing(operator):
    command = f"echo \"${{x{operator}'it is' $'so'}}\"\n{HEREDOC % ('', '```', '```')}"
    assert get_protocol("bash-block").parse(f"```bash\n{command}\n```").commands == (command,)


@pytest.mark.parametrize("operator", ["#", "##", "%", "%%", "/", "//", "/#", "/%", "^", "^^", ",", ",,"])
@pytest.mark.parametrize("quoted", ["'\"'", "$'\"\\''", "'}'"])
def test_quotes_after_an_operator_with_a_pattern_quote_in_double_quotes(operator, quoted):
    command = f'echo "${{x{operator}{quoted}}}"\n{HEREDOC % ("", "```", "```")}'
    assert get_protocol("bash-block").parse(f"```bash\n{command}\n```").commands == (command,)


@pytest.mark.parametrize(
    "line",
    [
        "${x:-'\"'}",
        "${x:-$'\"'}",
        "${x:-it's}",
        "${x:0:'\"'}",
        "${x@'\"'}",
        "${x[$i]%'\"'}",
        "${#'\"'}",
        "${ echo '; }",
        "$$(a)",
    ],
)
def test_where_bash_may_read_quotes_in_two_ways_a_command_that_may_be_cut_is_not_run(line):
    reply = f'```bash\necho "{line}"\n{HEREDOC % ("", "```", "```")}\n```'
    parse = get_protocol("bash-block").parse(reply)
    assert (parse.status, parse.commands) == ("failed", ())
    assert "unclear $" in parse.error
