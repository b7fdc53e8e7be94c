"""Is a finding robust to how errors and repaired replies are counted?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from capvec.records import Outcome
from capvec.stats.effects import Arm, Effect, TaskMean, by_task, effect_by_task, task_means

Reading = Literal[
    "errors excluded", "errors count against the config", "errors count for the config", "strict parses only"
]


@dataclass(frozen=True)
class Sensitivity:
    """The effect on the pass rate under one reading of the outcomes, the same reading for all configs."""

    reading: Reading
    effect: Effect


def sensitivity(
    config: str, outcomes: Sequence[Outcome], base: Sequence[Outcome], *, strict: bool = True
) -> tuple[Sensitivity, ...]:
    """The effect on the pass rate under each reading. Readings under which both share no task are left out.

    * `errors excluded`: as in the verdict.
    * `errors count against the config`: its errors are unsolved trials, the baseline's are excluded: the worst case.
    * `errors count for the config`: its errors are solved trials: the best case.
    * `strict parses only`: a trial that needed a repaired reply is unsolved, on both sides. Only with `strict`: it must
      be on record which trials did.

    Args:
        config: its name.
        outcomes: of the config, errors included.
        base: the same of the baseline.
        strict: whether repaired replies are on record.
    """
    every, valid, valid_base = by_task(outcomes), _valid(outcomes), _valid(base)
    usual = task_means(valid_base, _is_solved)
    arms: dict[Reading, tuple[Mapping[str, TaskMean], Mapping[str, TaskMean]]] = {
        "errors excluded": (task_means(valid, _is_solved), usual),
        "errors count against the config": (task_means(every, _is_solved), usual),
        "errors count for the config": (task_means(every, lambda outcome: outcome.outcome != "unsolved"), usual),
    }
    if strict:
        arms["strict parses only"] = (task_means(valid, _is_strict), task_means(valid_base, _is_strict))
    found = {reading: effect_by_task(config, "pass_rate", *both) for reading, both in arms.items()}
    return tuple(Sensitivity(reading, effect) for reading, effect in found.items() if effect is not None)


def _valid(outcomes: Sequence[Outcome]) -> Arm:
    return by_task(outcome for outcome in outcomes if outcome.outcome != "error")


def _is_solved(outcome: Outcome) -> bool:
    return outcome.outcome == "solved"


def _is_strict(outcome: Outcome) -> bool:
    """Whether it is solved without a repaired reply."""
    return outcome.outcome == "solved" and not outcome.repaired
