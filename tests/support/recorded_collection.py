"""A collection: two attempts on two tasks without a direction."""

from __future__ import annotations

from capvec.plan.plan import Plan, Settings, interleave
from capvec.records import Config
from support.outcomes import outcome
from support.recorded_calibration import task


def collection(folder):
    """Its plan and outcomes: a trial is solved, two are not, and one is an error."""
    tasks = (task("a-1", "a", "trained"), task("b-1", "b", "held-out"))
    plan = Plan(
        "r",
        folder,
        tasks,
        (Config("baseline", "baseline"),),
        interleave(tasks, [Config("baseline", "baseline")], 2, 0),
        Settings("m", "bash-block", "brief", 4, 32, 0.7),
    )
    outcomes = [
        outcome("baseline", "a-1", "solved", 1, steps=3, parse_fail=1),
        outcome("baseline", "a-1", "unsolved", 2, steps=5, no_cmd=2),
        outcome("baseline", "b-1", "unsolved", 1, steps=2),
        outcome("baseline", "b-1", "error", 2),
    ]
    return plan, outcomes
