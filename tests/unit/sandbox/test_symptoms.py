"""What counts as a sign that a verifier's tools failed, and what does not."""

from __future__ import annotations

import pytest

from capvec.records import CommandResult
from capvec.sandbox.symptoms import NETWORK, PERMISSION, PROGRAM, SIGNAL, SPACE, TESTS, symptoms

pytestmark = pytest.mark.unit


@pytest.mark.parametrize(
    ("kind", "line"),
    [
        (NETWORK, "W: Failed to fetch http://mirror.example.org/debian/dists/bookworm/InRelease  Temporary failure"),
        (NETWORK, "  Temporary failure resolving 'mirror.example.org'"),
        (NETWORK, "curl: (6) Could not resolve host: astral.sh"),
        (NETWORK, "error: Failed to fetch: `https://packages.example.org/simple/pytest/`"),
        (NETWORK, "wget: unable to resolve host address ‘example.org’"),
        (NETWORK, "fatal: unable to access 'https://github.com/x/y.git/': Could not resolve host: github.com"),
        (NETWORK, "ERROR: No matching distribution found for pytest"),
        (NETWORK, "npm error code EAI_AGAIN: getaddrinfo EAI_AGAIN registry.example.org"),
        (NETWORK, "curl: (22) The requested URL returned error: 503"),
        (PERMISSION, "E: setgroups 65534 failed - setgroups (1: Operation not permitted)"),
        (PERMISSION, "chown: changing ownership of '/app/x': Operation not permitted"),
        (PERMISSION, "PermissionError: [Errno 1] Operation not permitted: '/app/x'"),
        (PROGRAM, "/tests/test.sh: line 7: uvx: command not found"),
        (PROGRAM, "/tests/test.sh: 7: uvx: not found"),
        (PROGRAM, "/tests/test.sh: /usr/bin/python3: bad interpreter: No such file or directory"),
        (PROGRAM, "bash: line 1: /tests/test.sh: cannot execute: required file not found"),
        (PROGRAM, "bash: line 1: /tests/test.sh: /bin/bash^M: bad interpreter: No such file or directory"),
        (PROGRAM, "bash: /tests/test.sh: cannot execute: required file not found"),
        (PROGRAM, "/usr/bin/env: 'python3': No such file or directory"),
        (PROGRAM, "/usr/bin/env: ‘bash\\r’: No such file or directory"),
        (PROGRAM, "env: can't execute 'python3': No such file or directory"),
        (PROGRAM, "/usr/bin/python3: No module named pytest"),
        (PROGRAM, "python3: can't open file '/tests/check.py': [Errno 2] No such file or directory"),
        (TESTS, "collected 0 items"),
        (TESTS, "========= no tests ran in 0.01s ========="),
        (TESTS, "Ran 0 tests in 0.000s"),
        (SPACE, "OSError: [Errno 28] No space left on device"),
        (SIGNAL, "/tests/test.sh: line 3:    12 Killed                  python3 /tests/check.py"),
    ],
)
def test_a_tool_that_failed_is_seen_in_what_it_printed(kind: str, line: str) -> None:
    found = symptoms(CommandResult(f"first\n{line}\nlast\n", 0))
    assert kind in [symptom.kind for symptom in found]
    assert line.rsplit(maxsplit=1)[-1] in str(found[0])


@pytest.mark.parametrize(("code", "kind"), [(127, PROGRAM), (126, PROGRAM), (5, TESTS), (137, SIGNAL), (139, SIGNAL)])
def test_an_exit_code_tells_too(code: int, kind: str) -> None:
    (found,) = symptoms(CommandResult("", code))
    assert (found.kind, found.line) == (kind, f"exit code {code}")


@pytest.mark.parametrize(
    "output",
    [
        "E       FileNotFoundError: [Errno 2] No such file or directory: '/app/out.txt'\n1 failed in 0.02s",
        "collected 3 items\nF.F\n2 failed, 1 passed",
        "bash: /app/run.sh: No such file or directory",
        "bash: line 1: /app/run.sh: cannot execute: required file not found",
        "ConnectionRefusedError: [Errno 111] Connection refused",
        "ModuleNotFoundError: No module named 'solution'",
        "AssertionError: expected 200, got 500",
    ],
)
def test_a_test_that_fails_on_a_wrong_answer_is_no_sign(output: str) -> None:
    assert symptoms(CommandResult(output, 1)) == ()


def test_of_each_kind_the_first_line_is_kept() -> None:
    found = symptoms(CommandResult("curl: (6) Could not resolve host: a\ncurl: (6) Could not resolve host: b\n", 0))
    assert [symptom.line for symptom in found] == ["curl: (6) Could not resolve host: a"]
