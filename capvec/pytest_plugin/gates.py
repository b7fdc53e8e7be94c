"""Gates as pytest sees them: one test each, so that junit, the terminal's counts and `--last-failed` have them too."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import pytest

from capvec.results.gates import GateResult
from capvec.results.results import Results


def gate_reports(results: Results, file: str) -> Iterator[pytest.TestReport]:
    """The reports of one test for each gate: passed, failed, or skipped where trials are missing.

    A gate that was judged on some of the trials says nothing about all of them, neither way; such a session fails
    without it.

    Args:
        results: of the session.
        file: what the node ids of the trials begin with.
    """
    for gate in results.gates:
        verdict = "met" if gate.met else "not met"
        if results.completeness.missing:
            why_not = f"not judged: {results.completeness}; so far {verdict}: {gate.reason}"
            yield from _reports(gate, file, "not judged", "skipped", (file, 1, why_not))
        else:
            yield from _reports(gate, file, verdict, *(("passed", None) if gate.met else ("failed", gate.reason)))


def _reports(
    gate: GateResult,
    file: str,
    verdict: str,
    outcome: Literal["passed", "failed", "skipped"],
    words: str | tuple[str, int, str] | None,
) -> Iterator[pytest.TestReport]:
    """What a test leaves: its call, and its teardown, upon which junit takes the properties in."""
    now = time.time()
    name = f"gate[{gate.condition}]"
    properties = (("gate", gate.condition), ("verdict", verdict), ("reason", gate.reason))

    def report(
        when: Literal["call", "teardown"],
        outcome: Literal["passed", "failed", "skipped"],
        words: str | tuple[str, int, str] | None,
    ) -> pytest.TestReport:
        return pytest.TestReport(
            nodeid=f"{file}::{name}",
            location=(file, None, name),
            keywords={name: 1},
            outcome=outcome,
            longrepr=words,
            when=when,
            start=now,
            stop=now,
            user_properties=properties,
        )

    yield report("call", outcome, words)
    yield report("teardown", "passed", None)
