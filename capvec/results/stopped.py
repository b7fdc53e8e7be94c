"""How workers learn which trials of a `--sequential` sweep need not run any more. They need no statistics for it."""

from __future__ import annotations

import json
from collections.abc import Mapping

from capvec.plan.plan import Plan
from capvec.records import TrialId
from capvec.storage import write_text

STOPPED = "stopped.json"
"""In the run folder: the trials that need not run any more, each with the reason."""


def publish_stopped(plan: Plan, reasons: Mapping[TrialId, str]) -> None:
    """Write `stopped.json`, whole, since workers read it; without a trial to stop there is none."""
    path = plan.folder / STOPPED
    if reasons:
        write_text(path, json.dumps({str(trial): reason for trial, reason in reasons.items()}, indent=2) + "\n")
    else:
        path.unlink(missing_ok=True)


def why_stopped(plan: Plan, trial: TrialId) -> str | None:
    """Why a trial need not run any more; None if it must. Workers ask before each trial."""
    path = plan.folder / STOPPED
    if not plan.sequential or not path.exists():
        return None
    reasons: dict[str, str] = json.loads(path.read_text(encoding="utf-8"))
    return reasons.get(str(trial))
