"""A sweep with controls: its configs, and trials with given ends."""

from __future__ import annotations

from capvec.records import Config, ControlOf
from support.outcomes import outcome


def control(name, kind, *of):
    return Config(name, "control", control=ControlOf(kind, of))


CONFIGS = (
    Config("baseline", "baseline"),
    Config("v", "steered"),
    Config("w", "steered"),
    control("r1", "random", "v"),
    control("r2", "random", "v"),
    control("f", "negated", "v"),
    control("z", "zero", "v", "w"),
)


def runs(**solved):
    """Of each config, four trials on as many tasks: `1` solved, `0` unsolved, `e` an error, `.` not run."""
    status = {"1": "solved", "0": "unsolved", "e": "error"}
    return [
        outcome(config, f"t{k}", status[mark], steps=10 * (mark == "1") + 5)
        for config, marks in solved.items()
        for k, mark in enumerate(marks)
        if mark in status
    ]
