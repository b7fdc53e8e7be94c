"""Gates as tests, one each, so that junit, the terminal's counts and `--last-failed` include them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Literal

import pytest

from capvec.results.gates import GateResult
from capvec.results.results import Results


def gate_reports(results: Results, file: str) -> Iterator[pytest.TestReport]:
    """The reports of one test for each gate: passed, failed, or skipped if trials are missing.

    A gate that was judged on a part of the trials decides nothing; a session with missing trials fails without it.
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
    """The reports of a test: its call, and its teardown, at which junit reads the properties."""
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
