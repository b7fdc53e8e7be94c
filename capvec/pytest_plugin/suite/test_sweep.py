"""One test per trial. The `outcome` fixture runs it: a fault of the instrument is a set-up error, never a result."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:  # else `python_classes = *` would take it for a class of tests
    from capvec.records import Outcome


def test_trial(outcome: Outcome) -> None:
    """A trial is valid when the verifier decided; solved and unsolved are both data."""
    assert outcome.outcome in {"solved", "unsolved"}, outcome.error


test_trial.__test__ = True  # type: ignore[attr-defined]  # collected under any `python_functions`
