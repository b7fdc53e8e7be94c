"""What a command leaves open is what bash says it does."""

from __future__ import annotations

import re
import subprocess

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from capvec.agent.protocols.shelltext import scan, unix_lines

pytestmark = pytest.mark.unit

PARTS = (
    "ls ", "'", '"', "`", "\\", "\n", "# it's\n", "$(", ")", "${x:-", "}", "$((1 << 2))", "((x<<=1))", "<<EOF ",
    "<<'EOF'\n", "<<-\tEOF\n", "EOF\n", "\tEOF\n", "<<< x ", "$'a\\'", "case $x in a) ", ";; esac\n", "; ", "| ",
    "echo ",
)  # fmt: skip


@settings(max_examples=80, deadline=None, derandomize=True)
@given(command=st.lists(st.sampled_from(PARTS), max_size=10).map("".join))
def test_what_is_open_is_what_bash_misses(command):
    bash = subprocess.run(["bash", "-n"], input=command.encode(), capture_output=True, timeout=20, check=False)
    said = bash.stderr.decode(errors="replace")
    if not said:
        assert not scan(command).open or "unclear" in scan(command).open
    elif "delimited by end-of-file" in said or re.search("matching `['\"`]'", said):
        assert scan(command).open


@pytest.mark.parametrize(
    ("command", "open_part"),
    [
        ("cat <<EOF\na", "the heredoc that ends with 'EOF'"),
        ("cat <<EOF\na\n EOF", "the heredoc that ends with 'EOF'"),
        ("cat <<-EOF\na\n\tEOF", ""),
        ("cat <<A <<B\nA\nB\nB", ""),
        ("cat <<A <<B\nB\nA\n", "the heredoc that ends with 'B'"),
        ("x=\"$(cat <<'E F'\nit's\nE F\n)\"", ""),
        ("cat <<EOF\n\\\nEOF", "the heredoc that ends with 'EOF'"),
        ("echo 'a", "a ' quotation"),
        ("echo \"$(echo ')')", 'a " quotation'),
        ("echo it\\'s # don't", ""),
        ("(ls)# it's", ""),
        ("echo $(ls)#'", "a ' quotation"),
        ("echo $((1))#'", "a ' quotation"),
        ("echo \\ #'", "a ' quotation"),
        ("echo $(#'\n)", ""),
    ],
)
def test_heredocs_and_quotations_that_are_not_closed_are_found(command, open_part):
    assert scan(command).open == open_part


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("ls\r\n", "ls\n"),
        ("cat <<E\r\na\r\nE\r\n", "cat <<E\na\nE\n"),
        ("cat <<E\na\r\nE\n", "cat <<E\na\r\nE\n"),
        ("printf 'a\r\nb'", "printf 'a\r\nb'"),
        ("ls # x\r\n", "ls # x\n"),
    ],
)
def test_windows_line_ends_in_heredocs_and_quotes_are_content(command, expected):
    assert unix_lines(command) == expected
