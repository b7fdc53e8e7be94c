"""One test per trial. The `outcome` fixture runs it: a fault of the instrument is a set-up error, never a result."""

from __future__ import annotations

from capvec.records import Outcome


def test_trial(outcome: Outcome) -> None:
    """A trial is valid when the verifier decided; solved and unsolved are both data."""
    assert outcome.outcome in {"solved", "unsolved"}, outcome.error
