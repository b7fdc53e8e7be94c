"""The sessions of a run: `--resume` begins one more, and each trial says which of them ran it.

Sessions are told apart by an identity that is drawn for each, and not by the time, since a clock may be set back. An
earlier capvec recorded no identities, and its trials are told apart by when they started.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from capvec.errors import UsageError
from capvec.records import Outcome


def new_session() -> str:
    """An identity for a session: 12 hex digits."""
    return secrets.token_hex(6)


def sessions_of(record: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """What each session of a run wrote into its `provenance.json`, oldest first.

    Args:
        record: the run's `provenance.json`.
    """
    return [*record.get("earlier_sessions", ()), record]


def brief(record: Mapping[str, Any]) -> list[dict[str, str]]:
    """Identity and beginning of each session of a run, oldest first, as a merged run keeps them.

    Args:
        record: the run's `provenance.json`.
    """
    return [one for session in sessions_of(record) for one in _within(session)]


def place_of(sessions: Sequence[Mapping[str, Any]], outcome: Outcome) -> int:
    """The place of the session that ran a trial.

    Args:
        sessions: of its run, oldest first.
        outcome: of the trial.

    Raises:
        UsageError: none of several has the identity that the trial names; or it names none, and nothing shows when it
            started, or when a session began.
    """
    if len(sessions) == 1:
        return 0
    alike = [place for place, one in enumerate(sessions) if outcome.session in {own["session"] for own in _within(one)}]
    if len(alike) == 1:
        return alike[0]
    try:
        if outcome.session or not alike:
            raise LookupError(f"session {outcome.session!r}")
        started = datetime.fromisoformat(outcome.started)
        begun = {place: datetime.fromisoformat(sessions[place]["written"]) for place in alike}
        return max((place for place, time in begun.items() if time <= started), default=alike[0])
    except (LookupError, TypeError, ValueError) as error:
        raise UsageError(
            f"provenance.json: nothing shows which of {len(sessions)} sessions ran {outcome.trial}, and so what it was "
            f"({error!r:.100}); put the files of that run back, or choose another --run"
        ) from error


def _within(session: Mapping[str, Any]) -> list[dict[str, str]]:
    """A session alone, or those of the runs that it merged. An earlier capvec recorded no identities."""
    merged = [one for part in session.get("merged", ()) for one in part.get("sessions", ())]
    every = [one if isinstance(one, Mapping) else {"written": one} for one in merged or [session]]
    return [{"session": one.get("session", ""), "written": one.get("written", "")} for one in every]
