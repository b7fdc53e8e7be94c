"""Is a finding robust to how errors and repaired replies are counted?"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from capvec.records import Config, Outcome
from capvec.stats.effects import Effect, paired_effect

Reading = Literal[
    "errors excluded", "errors count against the config", "errors count for the config", "strict parses only"
]


@dataclass(frozen=True)
class Sensitivity:
    """The effect on the pass rate under one reading of the outcomes, the same reading for all configs."""

    reading: Reading
    effect: Effect


def sensitivity(
    outcomes: Sequence[Outcome], config: str, baseline: str = Config.BASELINE, *, strict: bool = True
) -> tuple[Sensitivity, ...]:
    """The effect on the pass rate under each reading. Readings under which both share no task are left out.

    * `errors excluded`: as in the verdict.
    * `errors count against the config`: its errors are unsolved trials, the baseline's are excluded: the worst case.
    * `errors count for the config`: its errors are solved trials: the best case.
    * `strict parses only`: a trial that needed a repaired reply is unsolved, on both sides. Only with `strict`: it must
      be on record which trials did.
    """
    readings: dict[Reading, list[Outcome]] = {
        "errors excluded": list(outcomes),
        "errors count against the config": _errors_as("unsolved", outcomes, config),
        "errors count for the config": _errors_as("solved", outcomes, config),
    }
    if strict:
        readings["strict parses only"] = [
            replace(outcome, outcome="unsolved") if outcome.outcome == "solved" and outcome.repaired else outcome
            for outcome in outcomes
        ]
    found = {reading: paired_effect(read, config, "pass_rate", baseline) for reading, read in readings.items()}
    return tuple(Sensitivity(reading, effect) for reading, effect in found.items() if effect is not None)


def _errors_as(counted: Literal["solved", "unsolved"], outcomes: Sequence[Outcome], config: str) -> list[Outcome]:
    return [
        replace(outcome, outcome=counted) if outcome.config == config and outcome.outcome == "error" else outcome
        for outcome in outcomes
    ]
