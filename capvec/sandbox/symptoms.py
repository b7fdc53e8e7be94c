"""Signs, in what a program printed, that its own tools failed.

A sign proves nothing, since a verifier also prints what the agent's programs print. `capvec.run.control` decides.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from capvec.records import CommandResult
from capvec.serial import Record
from capvec.text import one_line

NETWORK, PERMISSION, PROGRAM, TESTS, SPACE, SIGNAL = (
    "the network cannot be reached",
    "an operation is not permitted",
    "a program is missing",
    "no test ran",
    "the disk is full",
    "a signal ended it",
)

_PATTERNS = {
    NETWORK: (
        r"Temporary failure (?:resolving|in name resolution)",
        r"Could not resolve (?:host|'|\")",
        r"Name or service not known",
        r"Network is unreachable",
        r"Failed to establish a new connection",
        r"Failed to fetch:? [`'\"]?https?:",
        r"unable to (?:access|resolve host)",
        r"dns error",
        r"getaddrinfo (?:ENOTFOUND|EAI_AGAIN)",
        r"Unable to locate package",
        r"No matching distribution found",
        r"(?:HTTP error|status server error|server error|returned error:) \(?(?:429|50[0-4])",
    ),
    PERMISSION: (
        r"(?:setgroups|setegid|seteuid|setresuid|setresgid) .*failed",
        r"\b(?:chown|chgrp|mount|su|sudo|install|tar|cp|mv|mkdir|mknod)\b.*Operation not permitted",
        r"PermissionError: \[Errno 1\]",
        r"dpkg: error",
        r"E: Sub-process .* (?:returned|received)",
    ),
    PROGRAM: (
        r"^/tests/\S+: line \d+: .*: (?:command not found|No such file or directory|Permission denied)",
        r"^/tests/\S+: \d+: .*: (?:not found|Permission denied)",  # dash
        r"^/tests/\S+: .*: bad interpreter",
        r"^bash: (?:line \d+: )?/tests/\S+: (?:cannot execute|.*bad interpreter)",
        r"^(?:/usr/bin/)?env: .*: No such file or directory",
        r"^env: can't execute ",  # BusyBox
        r"No module named '?(?:pytest|unittest2?|nose2?|tox|uv|pip)\b",
        r"can't open file '/tests/",
    ),
    TESTS: (r"^=*\s*no tests ran", r"^collected 0 items", r"^Ran 0 tests"),
    SPACE: (r"No space left on device", r"Disk quota exceeded"),
    SIGNAL: (r"^/tests/\S+: line \d+: +\d+ (?:Killed|Segmentation fault|Aborted|Bus error|Illegal instruction)",),
}
_SIGNS = {kind: re.compile("|".join(patterns)) for kind, patterns in _PATTERNS.items()}
_ENDS = {126: PROGRAM, 127: PROGRAM, 5: TESTS}
"""Exit codes of a shell that cannot run a program, and of pytest without a test."""


@dataclass(frozen=True)
class Symptom(Record):
    """One sign that a tool failed."""

    kind: str
    """One of the constants above."""
    line: str
    """What tells of it."""

    def __str__(self) -> str:
        return f"{self.kind} ({self.line})"


def symptoms(ran: CommandResult) -> tuple[Symptom, ...]:
    """The signs that tools of a program failed, the first of each kind, in the order of their lines."""
    found: dict[str, str] = {}
    for line in ran.output.splitlines():
        for kind, sign in _SIGNS.items():
            if kind not in found and sign.search(line):
                found[kind] = one_line(line)
    if ran.exit_code is not None:
        ended = _ENDS.get(ran.exit_code) or (SIGNAL if ran.exit_code > 128 else None)
        if ended is not None:
            found.setdefault(ended, f"exit code {ran.exit_code}")
    return tuple(Symptom(kind, line) for kind, line in found.items())
