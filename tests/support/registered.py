"""Preregistrations of plans, and of what plans are not."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from capvec.directions.study_direction import StudyDirection
from capvec.plan.options import SweepOptions
from capvec.plan.plan import Plan
from capvec.results.preregistration import Preregistration, RegisteredDirection, RegisteredModel, preregister

WRITTEN = "2026-11-24T10:00:00+00:00"
"""A day before the trials of a recorded run."""


def signed(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the hash of the rest, computed as docs/guides/preregistration.md says."""
    rest = {name: value for name, value in content.items() if name != "hash"}
    return {**rest, "hash": hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()}


def write_signed(path: Path, content: dict[str, Any]) -> Path:
    """A file with this content and its right hash; returns the path."""
    path.write_text(json.dumps(signed(content)))
    return path


def registered_for(
    plan: Plan, options: SweepOptions, steered: StudyDirection | None = None, **changes: Any
) -> Preregistration:
    """The preregistration of a plan, written before its trials, with some of its keys changed."""
    built = None if steered is None else steered.built
    claimed = RegisteredDirection(
        None if steered is None else steered.direction.hash, None if built is None else built.contrast.hash
    )
    asked = replace(
        options, attempts=plan.attempts, sequential=plan.sequential, effect=plan.effect, hypothesis="It helps."
    )
    made = preregister(asked, plan.configs, plan.tasks, model=RegisteredModel(plan.settings.model), direction=claimed)
    return Preregistration.from_json(signed(made.to_json() | {"written": WRITTEN} | changes))
