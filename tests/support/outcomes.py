"""Outcomes with given ends."""

from __future__ import annotations

from dataclasses import replace

from capvec.records import Outcome


def outcome(config, task, status="unsolved", attempt=1, **changes):
    """One trial's outcome; `changes` are fields of `Outcome`."""
    base = Outcome("r", task, config, None, None, attempt, 0, status, end_reason="done")
    return replace(base, **changes)


def arms(**solved_of):
    """`name=(solved, n)`: one trial a task, the first ones solved."""
    return [
        outcome(name, f"task{index}", "solved" if index < solved else "unsolved")
        for name, (solved, n) in solved_of.items()
        for index in range(n)
    ]
