"""Runs `capvec judge` in this process, for its lines and its exit code."""

from __future__ import annotations

from pathlib import Path

from capvec.commands.command_line import run_command
from support import REPOSITORY

RESULTS = REPOSITORY / "tests" / "data" / "results"
"""Results that other harnesses wrote; its README says how."""


def judged(capsys, *given: str | Path) -> tuple[int, str]:
    """The exit code, and everything that was printed on one line."""
    code = run_command(["judge", *map(str, given)])
    done = capsys.readouterr()
    return code, " ".join((done.out + done.err).split())
