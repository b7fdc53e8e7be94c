"""One test per trial of a calibration, whose verdicts come when all are in. Known effects, or known to be none."""

from __future__ import annotations

from capvec.records import Outcome


def test_trial(outcome: Outcome) -> None:
    """A trial is valid when the verifier decided; solved and unsolved are both data."""
    assert outcome.outcome in {"solved", "unsolved"}, outcome.error
